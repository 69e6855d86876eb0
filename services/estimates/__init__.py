"""Lengths of tasks, learned from those that have ended."""

from services.estimates.estimates import Estimates, History
from services.estimates.files import FileHistory
from services.estimates.learner import Learner

__all__ = ["Estimates", "FileHistory", "History", "Learner"]
