"""How long tasks take: what is learned of those that have ended."""

from services.estimates.learner import Learner

__all__ = ["Learner"]
