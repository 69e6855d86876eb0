"""`make messages`: bring the built-in catalogue up to date with the code.

The messages of the pages and elements, and the modules that are made for them, are those of
`tools/messages_js.py`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tools import messages_js
from tornado_rt.locales.catalogue import BUILT_IN, SUFFIX
from tornado_rt.locales.extraction import FoundMessage, find_all, find_marked, find_said, update

ROOT = Path(__file__).resolve().parent.parent
OURS = ("tornado_rt", "handlers", "services")
EXAMPLES = "examples"


def find_messages() -> dict[str, FoundMessage]:
    """Return the messages of all Python files. Raise ValueError for one that is no literal."""
    ours = find_all(_files_of(*OURS), find_marked)
    shipped = find_all(_files_of(EXAMPLES), find_said)
    return ours | shipped


def catalogues() -> list[Path]:
    """Return the built-in PO files."""
    return sorted(BUILT_IN.glob(f"*{SUFFIX}"))


def _files_of(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def main() -> int:
    """Write all catalogues, say what is not translated, and return the exit status."""
    found = find_messages()
    others = [messages_js.first(one) for one in messages_js.messages()]
    messages_js.main()
    left = [(file, one) for file in catalogues() for one in update(file, found, others)]
    for file, one in left:
        sys.stdout.write(f"{file.name}: no text for {one!r}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
