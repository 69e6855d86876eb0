"""Plans as data of version 3 names them: the analysts in their order, and the depth."""

import functools
import itertools

from services.analysis.plan import Analyst, make_plan
from tornado_rt.work import Plan

DEPTHS = range(1, 6)


def digests_by_name() -> dict[str, str]:
    """Return the digest of each plan that there may be, by its earlier name."""
    return {name: plan.digest for name, plan in _plans().items()}


def texts_by_digest() -> dict[str, bytes]:
    """Return the text of each plan that there may be."""
    return {plan.digest: plan.text for plan in _plans().values()}


@functools.cache
def _plans() -> dict[str, Plan]:
    sizes = range(1, len(Analyst) + 1)
    chosen = [one for size in sizes for one in itertools.permutations(Analyst, size)]
    return {
        f"{','.join(analysts)}:{depth}": make_plan(list(analysts), depth)
        for analysts in chosen
        for depth in DEPTHS
    }
