"""The table and the plot."""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.fanouts.large import Large
from benchmarks.fanouts.load import Transport

Found = dict[tuple[str, Transport], dict[str, float]]

TITLES = {Transport.WEBSOCKET: "WebSocket", Transport.SSE: "Server-Sent Events"}
LABELS = {
    "ours": "this server",
    "tornado": "plain Tornado",
    "starlette": "Starlette, uvicorn",
    "websockets": "websockets.broadcast",
    "nchan": "nchan",
    "ceiling": "ceiling: C, send()",
}


def tables(medians: Found) -> Iterator[str]:
    """Yield a table for each transport."""
    for transport, title in TITLES.items():
        found = {name: row for (name, spoken), row in medians.items() if spoken == transport}
        if found:
            yield from ("", f"## {title}", "")
            yield from _table(found)


def _table(found: dict[str, dict[str, float]]) -> Iterator[str]:
    yield (
        "| server | messages [1/s] | p50 [ms] | p99 [ms] | idle connection [KB] | connects [1/s] "
        "| message [B] | client busy [%] | ours to it, messages | ours to it, memory |"
    )
    yield "| --- |" + " ---: |" * 9
    ours = found.get("ours")
    for name, row in found.items():
        cells = [
            LABELS[name],
            f"{row['rate']:,.0f}",
            f"{row['p50'] * 1e3:.1f}",
            f"{row['p99'] * 1e3:.1f}",
            f"{row['memory'] / 1024:.1f}",
            f"{row['connects']:,.0f}",
            f"{row['size']:.0f}",
            f"{row['client'] * 100:.0f}",
            _ratio(ours, row, "rate"),
            _ratio(ours, row, "memory"),
        ]
        yield f"| {' | '.join(cells)} |"


def _ratio(ours: dict[str, float] | None, row: dict[str, float], key: str) -> str:
    return "–" if ours is None or row[key] <= 0 else f"{ours[key] / row[key]:.2f}"


def describe_large(all_found: Sequence[Large]) -> Iterator[str]:
    """Yield a table of what only this product was asked; a column for each transport."""
    if not all_found:
        return
    yield from ("", f"## {all_found[0].connections:,} connections to this server", "")
    yield "| | " + " | ".join(TITLES[found.transport] for found in all_found) + " |"
    yield "| --- |" + " ---: |" * len(all_found)
    columns = [dict(_large_rows(found)) for found in all_found]
    for label in columns[0]:
        yield f"| {label} | {' | '.join(column[label] for column in columns)} |"


def _large_rows(found: Large) -> Iterator[tuple[str, str]]:
    yield "connects with a JWT [1/s]", f"{found.connects:,.0f}"
    yield "idle connection [KB]", f"{found.memory / 1024:.1f}"
    yield "share of a core, no connection [%]", f"{found.empty_share * 100:.1f}"
    yield "share of a core, all idle, no heartbeats [%]", f"{found.silent_share * 100:.1f}"
    yield "share of a core, all idle, heartbeats [%]", f"{found.heartbeat_share * 100:.1f}"
    timed = {
        "to one user, from Redis PUBLISH": found.through_redis,
        "to one user, from POST /api/notifications": found.through_http,
        "broadcast to all": found.broadcast,
        "GET /healthz, nothing else": found.healthz_alone,
        "GET /healthz during broadcasts": found.healthz_broadcast,
    }
    for label, times in timed.items():
        values = " / ".join(f"{times[name] * 1e3:.2f}" for name in ("p50", "p99", "max"))
        yield f"{label}: p50 / p99 / max [ms]", values


BAR, GAP, LEFT, WIDTH, RIGHT = 20, 6, 170, 420, 90
PANELS = (
    ("rate", "messages delivered each second", 1.0, "{:,.0f}"),
    ("memory", "memory of an idle connection [KB]", 1024.0, "{:.1f}"),
)
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}"
    ".bar{fill:#9aa5b1}.ours{fill:#1f77b4}.ceiling{fill:#dde2e8}"
)


def plot(medians: Found) -> str:
    """Return an SVG with bars for each transport: messages a second, and memory."""
    pieces: list[str] = []
    y = 10
    for transport, title in TITLES.items():
        for key, what, unit, form in PANELS:
            rows = {
                name: row[key] / unit
                for (name, spoken), row in medians.items()
                if spoken == transport and (key, name) != ("memory", "ceiling")
            }
            if rows:
                pieces += _panel(f"{title}: {what}", rows, form, y)
                y += (len(rows) + 2) * (BAR + GAP)
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *pieces, "</svg>", ""])


def _panel(title: str, rows: dict[str, float], form: str, y: int) -> Iterator[str]:
    longest = max([*rows.values(), 1e-9])
    yield f'<text class="title" x="10" y="{y + 14}">{escape(title)}</text>'
    for name, value in rows.items():
        y += BAR + GAP
        width = max(value, 0) / longest * WIDTH
        kind = name if name in ("ours", "ceiling") else "bar"
        yield f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(LABELS[name])}</text>'
        yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
        yield f'<text x="{LEFT + width + 6:.1f}" y="{y + 14}">{form.format(value)}</text>'
