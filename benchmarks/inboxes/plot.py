"""The plot: each cost against the size, both logarithmic."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import attrs

from benchmarks.inboxes.report import AIMS, LABELS, Sizes
from benchmarks.inboxes.rounds import Measure
from benchmarks.inboxes.servers import Way

COLUMNS, WIDTH, HEIGHT = 3, 270, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 15, 30, 30
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.small{font-size:10px}"
    ".ours{stroke:#1f77b4;fill:#1f77b4}.naive{stroke:#9aa5b1;fill:#9aa5b1}"
    "polyline.ours,polyline.naive{fill:none;stroke-width:2}text.ours,text.naive{stroke:none}"
    "line{stroke:#dde2e8}line.aim{stroke:#d62728;stroke-dasharray:4 3}"
)
KEY = (
    '<text x="10" y="20">ms a request against notifications stored:</text>',
    *('<line class="aim" x1="510" x2="535" y1="16" y2="16"/>', '<text x="540" y="20">aim</text>'),
)

# Size and ms.
Points = Sequence[tuple[int, float]]


def plot(sizes: Sizes) -> str:
    """Return an SVG with a panel for each measure."""
    lines = {measure: _lines(sizes, measure) for measure in Measure}
    panels = [Panel(one, list(sizes), lines[one]) for one in Measure if any(lines[one].values())]
    height = math.ceil(len(panels) / COLUMNS) * HEIGHT + TOP
    pieces = [*KEY, *_ways()]
    for number, panel in enumerate(panels):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + TOP
        pieces += [f'<g transform="translate({x} {y})">', *panel.draw(), "</g>"]
    size = f'width="{COLUMNS * WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *pieces, "</svg>", ""])


def _lines(sizes: Sizes, measure: Measure) -> dict[Way, Points]:
    lines: dict[Way, Points] = {}
    for way in Way:
        found = [(size, ways[way].costs) for size, ways in sizes.items() if way in ways]
        lines[way] = [
            (size, costs[measure].median * 1e3) for size, costs in found if measure in costs
        ]
    return lines


def _ways() -> Iterator[str]:
    for number, way in enumerate(Way):
        x = 290 + number * 110
        yield f'<circle class="{way}" cx="{x}" cy="16" r="4"/>'
        yield f'<text class="{way}" x="{x + 8}" y="20">{LABELS[way]}</text>'


@attrs.frozen
class Panel:
    """One measure, a line for each way."""

    measure: Measure
    sizes: Sequence[int]
    lines: Mapping[Way, Points]

    def draw(self) -> Iterator[str]:
        """Yield the pieces."""
        yield f'<text class="title" x="{LEFT - 30}" y="18">{escape(self.measure)}</text>'
        for power in range(self._powers[0], self._powers[1] + 1):
            yield from self._level(10.0**power, f"{10.0**power:g}")
        if self._aim:
            yield from self._level(self._aim, kind="aim")
        for size in self.sizes:
            place = f'x="{self._x(size):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle"'
            yield f'<text class="small" {place}>{size:,}</text>'
        for way, points in self.lines.items():
            yield from self._line(way, [(self._x(size), self._y(ms)) for size, ms in points])

    def _level(self, ms: float, label: str = "", kind: str = "") -> Iterator[str]:
        y, end = self._y(ms), WIDTH - RIGHT
        yield f'<line class="{kind}" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
        place = f'x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end"'
        yield f'<text class="small" {place}>{label}</text>'

    def _line(self, way: Way, points: Sequence[tuple[float, float]]) -> Iterator[str]:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="{way}" points="{corners}"/>'
        yield from (f'<circle class="{way}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)

    @property
    def _aim(self) -> float:
        """The most that it should take [ms]; 0: there is no aim."""
        return AIMS.get(self.measure, 0.0) * 1e3

    @property
    def _powers(self) -> tuple[int, int]:
        """The powers of ten between which all is drawn."""
        values = [ms for points in self.lines.values() for _, ms in points]
        values += [self._aim] if self._aim else []
        low = math.floor(math.log10(min(values)))
        return low, max(math.ceil(math.log10(max(values))), low + 1)

    def _x(self, size: int) -> float:
        first, last = math.log10(self.sizes[0]), math.log10(self.sizes[-1])
        share = (math.log10(size) - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _y(self, ms: float) -> float:
        low, high = self._powers
        share = (math.log10(ms) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
