"""The tables, and the aims that they are held against."""

import math
from collections.abc import Iterator, Mapping

from benchmarks.inboxes.rounds import RATES, STALL_SECONDS, Cost, Found, Measure
from benchmarks.inboxes.servers import Way

# The results of each way at each size, the smallest size first.
Sizes = Mapping[int, Mapping[Way, Found]]

# Seconds a request, at any size.
AIMS = {
    Measure.LIST: 0.004,
    Measure.SAME_LIST: 0.004,
    Measure.UNREAD_LIST: 0.004,
    Measure.OLDER_LIST: 0.004,
    Measure.COUNT: 0.001,
    Measure.CREATE: 0.006,
    Measure.RESUME: 0.008,
    Measure.MARK: 0.004,
    Measure.CREATES: 1 / 1500,
}
MOST_GROWTH = 1.3
LABELS = {Way.OURS: "this server", Way.NAIVE: "the naive way"}


def tables(sizes: Sizes) -> Iterator[str]:
    """Yield a table for each size, then the probes."""
    smallest = next(iter(sizes.values()))
    for size, found in sizes.items():
        yield from ("", f"## {size:,} notifications", "")
        yield from _table(found, smallest)
    yield from ("", "## With nothing to do but its upkeep", "")
    yield from _probes(sizes)
    yield from ("", "## The store alone", "")
    yield "The same reads and writes by PyMongo: no server over this store can be faster."
    yield from ("", *_alone(sizes))


def _table(found: Mapping[Way, Found], smallest: Mapping[Way, Found]) -> Iterator[str]:
    titles = [f"{LABELS[way]} | p95 | growth" for way in found]
    compared = len(found) == len(Way)
    more = ["naive to ours"] if compared else []
    yield f"| | aim | {' | '.join([*titles, *more])} |"
    yield "| --- |" + " ---: |" * (1 + 3 * len(found) + len(more))
    for measure in Measure:
        costs = {way: one.costs.get(measure) for way, one in found.items()}
        cells = [_aim(measure, costs.get(Way.OURS))]
        for way, cost in costs.items():
            cells += _cells(measure, cost, smallest[way].costs.get(measure))
        cells += [_ratio(costs[Way.NAIVE], costs[Way.OURS])] if compared else []
        yield f"| {measure} | {' | '.join(cells)} |"


def _aim(measure: Measure, cost: Cost | None) -> str:
    if measure not in AIMS:
        return ""
    met = "" if cost is None else (": met" if cost.median <= AIMS[measure] else ": **not met**")
    return _shown(measure, AIMS[measure]) + met


def _cells(measure: Measure, cost: Cost | None, least: Cost | None) -> list[str]:
    if cost is None:
        return ["–"] * 3
    p95 = "" if cost.p95 is None else _shown(measure, cost.p95)
    growth = _ratio(cost, least)
    is_large = least is not None and cost.median > MOST_GROWTH * least.median
    return [_shown(measure, cost.median), p95, f"**{growth}**" if is_large else growth]


def _shown(measure: Measure, seconds: float) -> str:
    return f"{1 / seconds:,.0f}/s" if measure in RATES else f"{seconds * 1e3:.2f} ms"


def _ratio(cost: Cost | None, least: Cost | None) -> str:
    return f"{cost.median / least.median:.1f}" if cost and least else "–"


def _probes(sizes: Sizes) -> Iterator[str]:
    limit = f"{STALL_SECONDS * 1e3:.0f} ms"
    counted = f"requests | the longest [ms] | above {limit} | refused"
    yield f"| | watched | {counted} | the probe's own lateness |"
    yield "| --- |" + " ---: |" * 6
    for size, found in sizes.items():
        for way, one in found.items():
            probed = one.probed
            cells = [
                f"{size:,}, {LABELS[way]}",
                f"{probed.seconds:.0f} s",
                f"{probed.requests:,}",
                " ".join(f"{seconds * 1e3:.1f}" for seconds in probed.longest),
                f"{probed.stalls}",
                f"{probed.refused}",
                f"{probed.late * 1e3:.1f} ms",
            ]
            yield f"| {' | '.join(cells)} |"


def _alone(sizes: Sizes) -> Iterator[str]:
    stores = {size: found[Way.OURS].store for size, found in sizes.items() if Way.OURS in found}
    yield f"| | {' | '.join(f'{size:,}' for size in stores)} |"
    yield "| --- |" + " ---: |" * len(stores)
    for what in dict.fromkeys(what for store in stores.values() for what in store):
        cells = [f"{store[what] * 1e3:.2f} ms" for store in stores.values()]
        yield f"| {what} | {' | '.join(cells)} |"


def failures(sizes: Sizes) -> Iterator[str]:
    """Yield what is not as it should be, and what could not be measured."""
    smallest = next(iter(sizes.values()))
    for size, found in sizes.items():
        if Way.OURS in found:
            yield from (f"- {size:,}: {one}" for one in _missed(found, smallest))
        for way, one in found.items():
            yield from (f"- {size:,}, {LABELS[way]}: no {reason}" for reason in one.missing)


def _missed(found: Mapping[Way, Found], smallest: Mapping[Way, Found]) -> Iterator[str]:
    ours, least = found[Way.OURS], smallest[Way.OURS].costs
    for measure, cost in ours.costs.items():
        if cost.median > AIMS.get(measure, math.inf):
            aim = _shown(measure, AIMS[measure])
            yield f"{measure}: {_shown(measure, cost.median)}, the aim is {aim}"
        if measure in least and cost.median > MOST_GROWTH * least[measure].median:
            growth = _ratio(cost, least[measure])
            yield f"{measure}: {growth} times as at the smallest size, the aim is {MOST_GROWTH}"
    if stalls := ours.probed.stalls:
        longest = f"the longest {ours.probed.longest[0] * 1e3:.0f} ms"
        yield f"{stalls} of {ours.probed.requests} probes were stalled, {longest}"
    if refused := ours.probed.refused:
        yield f"{refused} of {ours.probed.requests} probes were refused"
