"""Drawings of `docs/images` that are made of the code: states, and ways of data."""

import html
import math
from collections.abc import Mapping, Sequence

import attrs

from services.queue.states import TASK_TRANSITIONS
from tornado_rt.subscription import TRANSITIONS

STYLE = """<style>
    text { fill: #1f2328; } .small { font-size: 13px; fill: #57606a; }
    .small, .frame-name { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
    .ground { fill: #ffffff; } .box { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.5; }
    .way { fill: none; stroke: #57606a; stroke-width: 1.6; marker-end: url(#head); }
    .life, .frame { fill: none; stroke: #8c959f; stroke-dasharray: 4 4; }
    .frame-name { font-size: 13px; fill: #57606a; } #head path { fill: #57606a; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; } .small, .frame-name { fill: #9da7b1; stroke: #0d1117; }
      .ground { fill: #0d1117; } .box { fill: #0c2d48; stroke: #58a6ff; } .way { stroke: #9da7b1; }
      .life, .frame { stroke: #6e7681; } #head path { fill: #9da7b1; }
    }
  </style>
  <defs>
    <marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"
      orient="auto"><path d="M0 0 10 5 0 10z"/></marker>
  </defs>"""
BOX_WIDTH, BOX_HEIGHT = 118, 40
LINE = 16
LANE, FIRST_LANE, STEP, TOP = 230, 110, 46, 70

Point = tuple[float, float]


@attrs.frozen
class Arrow:
    """An arrow between two states; `bend` moves its middle to the left of its direction [px]."""

    begin: str
    end: str
    words: Sequence[str]
    bend: float = 0.0


@attrs.frozen
class Way:
    """A way of data: its participants, and its messages as (from, to, words)."""

    title: str
    participants: Sequence[str]
    messages: Sequence[tuple[str, str, str]]


@attrs.frozen
class Frame:
    """States that share a transition: its arrow begins at `door`, on the edge of the frame."""

    members: Sequence[str]
    corner: Point
    size: Point
    door: Point


@attrs.frozen
class Layout:
    """Where each state stands, which states have a frame, and which arrows are bent [px]."""

    size: tuple[int, int]
    places: Mapping[str, Point]
    frames: Mapping[str, Frame]
    bends: Mapping[tuple[str, str], float]


TASK = Layout(
    size=(820, 500),
    places={
        "delayed": (130, 95),
        "queued": (430, 95),
        "processing": (430, 245),
        "completed": (730, 245),
        "failed": (130, 430),
        "dead": (320, 430),
        "cancelled": (510, 430),
    },
    frames={
        "not ended": Frame(("delayed", "queued", "processing"), (40, 40), (490, 270), (510, 310)),
        "not completed": Frame(("failed", "dead", "cancelled"), (40, 385), (550, 90), (590, 400)),
    },
    bends={
        ("queued", "processing"): 54.0,
        ("processing", "queued"): 54.0,
        ("not completed", "queued"): -75.0,
    },
)
SUBSCRIPTION = Layout(
    size=(820, 330),
    places={
        "opening": (130, 95),
        "live": (430, 95),
        "filling": (430, 245),
        "behind": (130, 245),
        "ended": (730, 170),
    },
    frames={
        "followed": Frame(
            ("opening", "live", "filling", "behind"), (40, 40), (490, 260), (530, 170)
        )
    },
    bends={
        ("live", "filling"): 34.0,
        ("filling", "live"): 34.0,
        ("filling", "behind"): 22.0,
        ("behind", "filling"): 22.0,
    },
)
WAYS = {
    "way-of-a-task": Way(
        "A task in",
        ("client", "request handler", "task service", "Redis", "worker"),
        (
            ("client", "request handler", "POST /api/tasks"),
            ("request handler", "task service", "parsed and bounded"),
            ("task service", "Redis", "enqueue.lua: the task is in its line"),
            ("request handler", "client", "202 and the id"),
            ("Redis", "worker", "wake"),
            ("worker", "Redis", "claim.lua: a lease and a token"),
            ("worker", "worker", "the handler runs"),
        ),
    ),
    "way-of-a-report": Way(
        "A report out",
        ("handler", "worker", "Redis", "backplane", "hub", "client"),
        (
            ("handler", "worker", "run.update(0.4)"),
            ("worker", "Redis", "report.lua: at most ten a second"),
            ("Redis", "Redis", "snapshot, log, time left"),
            ("Redis", "backplane", "published on the task's channel"),
            ("backplane", "hub", "to the subscribers of this process"),
            ("hub", "client", "progress, over SSE or WebSocket"),
        ),
    ),
    "way-of-a-notification": Way(
        "A notification to a socket",
        ("worker", "Redis", "outbox", "MongoDB", "backplane", "client"),
        (
            ("worker", "Redis", "ack: the end and its entry, in one script"),
            ("Redis", "outbox", "the entry is read by one process"),
            ("outbox", "MongoDB", "one operation of the account, journalled"),
            ("outbox", "backplane", "the new version of the inbox"),
            ("backplane", "client", "notification, with its id"),
            ("outbox", "Redis", "the entry is done"),
        ),
    ),
    "way-of-a-resume": Way(
        "A resume",
        ("client", "subscription", "hub", "log"),
        (
            ("client", "subscription", "connect with the id of the last event"),
            ("subscription", "hub", "subscribe; hold all that comes"),
            ("subscription", "log", "read after the cursor"),
            ("log", "subscription", "messages, or resync and a snapshot"),
            ("subscription", "client", "the replay, each message once"),
            ("hub", "subscription", "the held messages, and later ones"),
            ("subscription", "client", "live"),
        ),
    ),
}


def drawings() -> dict[str, str]:
    """Return the drawings by their names."""
    states = {
        "states-of-a-task": _states("The states of a task", TASK_TRANSITIONS, TASK),
        "states-of-a-subscription": _states(
            "The states of a subscription", TRANSITIONS, SUBSCRIPTION
        ),
    }
    return states | {name: _way(way) for name, way in WAYS.items()}


def _states(title: str, transitions: Sequence[tuple[str, str, str]], layout: Layout) -> str:
    words: dict[tuple[str, str], list[str]] = {}
    for begin, end, by in transitions:
        words.setdefault((str(begin), str(end)), []).append(by)
    told = "; ".join(f"{begin} to {end}: {', '.join(by)}" for (begin, end), by in words.items())
    for name, frame in layout.frames.items():
        for end, by in _shared(frame, words):
            for member in frame.members:
                words[member, end].remove(by)
            words.setdefault((name, end), []).append(by)
    arrows = [Arrow(*ends, by, layout.bends.get(ends, 0.0)) for ends, by in words.items() if by]
    parts = [_frame(name, frame) for name, frame in layout.frames.items()]
    parts += [_box(name, place) for name, place in layout.places.items()]
    parts += [_arrow(one, layout) for one in arrows]
    return _picture(title, told, layout.size, parts)


def _shared(frame: Frame, words: Mapping[tuple[str, str], Sequence[str]]) -> list[tuple[str, str]]:
    """Return the transitions, as end and words, that all members of a frame have."""
    each = [
        {(end, by) for (begin, end), several in words.items() if begin == member for by in several}
        for member in frame.members
    ]
    return sorted(set.intersection(*each))


def _frame(name: str, frame: Frame) -> str:
    (x, y), (width, height) = frame.corner, frame.size
    return (
        f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="12"/>'
        f'<text class="frame-name" x="{x + 14:g}" y="{y + 5:g}">{name}</text>'
    )


def _box(name: str, middle: Point) -> str:
    x, y = middle[0] - BOX_WIDTH / 2, middle[1] - BOX_HEIGHT / 2
    return (
        f'<rect class="box" x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text x="{middle[0]:g}" y="{middle[1] + 5:g}" text-anchor="middle">{name}</text>'
    )


def _arrow(arrow: Arrow, layout: Layout) -> str:
    frame = layout.frames.get(arrow.begin)
    x1, y1 = frame.door if frame else layout.places[arrow.begin]
    x2, y2 = layout.places[arrow.end]
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    across = ((y2 - y1) / length, -(x2 - x1) / length)
    middle = (
        (x1 + x2) / 2 + across[0] * arrow.bend,
        (y1 + y2) / 2 + across[1] * arrow.bend,
    )
    # The control point of a quadratic curve through the middle.
    control = (2 * middle[0] - (x1 + x2) / 2, 2 * middle[1] - (y1 + y2) / 2)
    begin = (x1, y1) if frame else _edge((x1, y1), control)
    path = " ".join(f"{x:.1f} {y:.1f}" for x, y in (control, _edge((x2, y2), control)))
    top = middle[1] - (len(arrow.words) - 1) * LINE / 2 + 4
    lines = [
        f'<text class="small" x="{middle[0]:.1f}" y="{top + number * LINE:.1f}"'
        f' text-anchor="middle">{html.escape(words)}</text>'
        for number, words in enumerate(arrow.words)
    ]
    return f'<path class="way" d="M{begin[0]:.1f} {begin[1]:.1f}Q{path}"/>' + "".join(lines)


def _edge(middle: Point, towards: Point) -> Point:
    """Return where a line from the middle of a box leaves it."""
    dx, dy = towards[0] - middle[0], towards[1] - middle[1]
    reach = min(
        (BOX_WIDTH / 2 + 3) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + 3) / abs(dy) if dy else math.inf,
    )
    return middle[0] + dx * reach, middle[1] + dy * reach


def _way(way: Way) -> str:
    xs = {name: FIRST_LANE + number * LANE for number, name in enumerate(way.participants)}
    bottom = TOP + (len(way.messages) + 1) * STEP
    parts = []
    for name, x in xs.items():
        parts.append(f'<line class="life" x1="{x}" y1="{TOP - 20}" x2="{x}" y2="{bottom - 20}"/>')
        parts.append(_box(name, (x, TOP - 38)))
    for number, (begin, end, words) in enumerate(way.messages, 1):
        y = TOP + number * STEP - 10
        x1, x2 = xs[begin], xs[end]
        if begin == end:
            path = f"M{x1} {y - 12}h34v18h-30"
            place, anchor = x1 + 42, "start"
        else:
            path, place, anchor = (
                f"M{x1} {y}H{x2 - math.copysign(3, x2 - x1):g}",
                (x1 + x2) / 2,
                "middle",
            )
        parts.append(f'<path class="way" d="{path}"/>')
        parts.append(
            f'<text class="small" x="{place:g}" y="{y - 7:g}" text-anchor="{anchor}">'
            f"{number}. {html.escape(words)}</text>"
        )
    told = "; ".join(f"{begin} to {end}: {words}" for begin, end, words in way.messages)
    return _picture(way.title, told, (2 * FIRST_LANE + LANE * (len(xs) - 1), bottom), parts)


def _picture(title: str, told: str, size: tuple[int, int], parts: Sequence[str]) -> str:
    width, height = size
    body = "\n  ".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="15">
  <title id="t">{html.escape(title)}</title>
  <desc id="d">{html.escape(told)}</desc>
  {STYLE}
  <rect class="ground" width="{width}" height="{height}"/>
  {body}
</svg>
"""
