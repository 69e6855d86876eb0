"""The report of the benchmarks of the time left: each writes its own section of one file."""

from pathlib import Path

RESULT = Path(__file__).resolve().parent.parent / "results" / "eta.md"
TITLE = "# The time left, measured"
# The sections of the report, in their order.
VIRTUAL, REAL = "## In virtual time", "## On real durations"
SECTIONS = (VIRTUAL, REAL)


def write_section(heading: str, text: str, path: Path = RESULT) -> None:
    """Put `text` below a heading of the report; the other sections stay as they are."""
    found = _sections(path.read_text()) if path.exists() else {}
    found[heading] = text.strip()
    parts = [f"{one}\n\n{found[one]}" for one in SECTIONS if one in found]
    path.write_text("\n\n".join([TITLE, *parts]) + "\n")


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line in SECTIONS:
            lines = found.setdefault(line, [])
        elif lines is not None:
            lines.append(line)
    return {heading: "\n".join(lines).strip() for heading, lines in found.items()}
