"""Why a task is where it is, and why its user has not heard of it: in codes, and in sentences.

`gathering` reads what is kept of a task in all stores, `causes` and `hearing` find the one reason,
`chain` tells all that happened in order, and `words` has every sentence.
"""

from services.why.gathering import Gatherer
from services.why.service import Why, WhyService

__all__ = ["Gatherer", "Why", "WhyService"]
