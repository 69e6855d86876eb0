"""The tables and the plot."""

import math
from collections.abc import Iterator, Mapping
from html import escape

from benchmarks.inboxes.rounds import RATES, STALL_SECONDS, Cost, Found, Measure
from benchmarks.inboxes.servers import Way

# What each size has of each way, the smallest size first.
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
    Measure.MARK_20: 0.004,
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
    yield f"| | watched | requests | the longest [ms] | above {limit} | the probe's own lateness |"
    yield "| --- |" + " ---: |" * 5
    for size, found in sizes.items():
        for way, one in found.items():
            probed = one.probed
            cells = [
                f"{size:,}, {LABELS[way]}",
                f"{probed.seconds:.0f} s",
                f"{probed.requests:,}",
                " ".join(f"{seconds * 1e3:.1f}" for seconds in probed.longest),
                f"{probed.stalls}",
                f"{probed.late * 1e3:.1f} ms",
            ]
            yield f"| {' | '.join(cells)} |"


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


COLUMNS, WIDTH, HEIGHT = 3, 270, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 15, 30, 30
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.small{font-size:10px}"
    "polyline{fill:none;stroke-width:2}.ours{stroke:#1f77b4;fill:#1f77b4}"
    ".naive{stroke:#9aa5b1;fill:#9aa5b1}polyline.ours,polyline.naive{fill:none}"
    "line{stroke:#dde2e8}text.ours,text.naive{stroke:none}"
)


def plot(sizes: Sizes) -> str:
    """Return an SVG of each cost against the size, both logarithmic."""
    measures = [one for one in Measure if any(_points(sizes, way, one) for way in Way)]
    rows = math.ceil(len(measures) / COLUMNS)
    size = f'width="{COLUMNS * WIDTH}" height="{rows * HEIGHT + TOP}"'
    pieces = list(_legend())
    for number, measure in enumerate(measures):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + TOP
        pieces += [f'<g transform="translate({x} {y})">', *_panel(sizes, measure), "</g>"]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *pieces, "</svg>", ""])


def _legend() -> Iterator[str]:
    yield '<text x="10" y="20">ms a request against notifications stored:</text>'
    for number, way in enumerate(Way):
        x = 290 + number * 110
        yield f'<circle class="{way}" cx="{x}" cy="16" r="4"/>'
        yield f'<text class="{way}" x="{x + 8}" y="20">{LABELS[way]}</text>'


def _points(sizes: Sizes, way: Way, measure: Measure) -> list[tuple[int, float]]:
    """Return size and ms."""
    found = ((size, ways[way].costs) for size, ways in sizes.items() if way in ways)
    return [(size, costs[measure].median * 1e3) for size, costs in found if measure in costs]


def _panel(sizes: Sizes, measure: Measure) -> Iterator[str]:
    lines = {way: _points(sizes, way, measure) for way in Way}
    values = [value for points in lines.values() for _, value in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    first, last = math.log10(min(sizes)), math.log10(max(sizes))

    def x(size: int) -> float:
        share = (math.log10(size) - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    yield f'<text class="title" x="{LEFT - 30}" y="18">{escape(measure)}</text>'
    for power in range(low, high + 1):
        at = y(10.0**power)
        yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        label = f'x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end"'
        yield f'<text class="small" {label}>{10.0**power:g}</text>'
    for size in sizes:
        label = f'x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle"'
        yield f'<text class="small" {label}>{size:,}</text>'
    for way, points in lines.items():
        drawn = [(x(size), y(value)) for size, value in points]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in drawn)
        yield f'<polyline class="{way}" points="{corners}"/>'
        yield from (f'<circle class="{way}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in drawn)
