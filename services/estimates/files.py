"""Lessons of ended tasks, in files: where there is no Redis."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from services.estimates.estimates import MOST_LESSONS, Entries
from tornado_rt.work.attempts.lessons import Lesson

# Most sorts of tasks that have a file; the one that taught nothing for the longest goes.
MOST_FILES = 2000


class FileHistory:
    """Keeps the newest lessons of each sort of task in a file of its own, a line each.

    A reader sees a file as it was before a change or after it. Two processes that add to the same
    file at the same moment may lose one of both lessons, and never more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def add(self, lesson: Lesson) -> None:
        """Keep a lesson."""
        await asyncio.to_thread(self._add, lesson)

    async def read_lessons(self, sorts: Sequence[tuple[str, str]]) -> list[Entries]:
        """Return for each key and kind the entries of both, the newest first."""
        return await asyncio.to_thread(self._read_all, list(sorts))

    def _read_all(self, sorts: Sequence[tuple[str, str]]) -> list[Entries]:
        return [(self._read("sort", key), self._read("kind", kind)) for key, kind in sorts]

    def _add(self, lesson: Lesson) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for what, name, entry in (
            ("sort", lesson.key, lesson.entry),
            ("kind", lesson.kind, lesson.whole),
        ):
            path = self._path(what, name)
            lines = [entry, *self._read(what, name)][:MOST_LESSONS]
            fresh = path.with_suffix(".new")
            fresh.write_bytes(b"\n".join(lines))
            fresh.replace(path)
        self._let_go()

    def _read(self, what: str, name: str) -> list[bytes]:
        try:
            return self._path(what, name).read_bytes().splitlines()
        except FileNotFoundError:
            return []

    def _path(self, what: str, name: str) -> Path:
        # A name may have any characters, and any case.
        return self._folder / f"{what}-{hashlib.sha256(name.encode()).hexdigest()[:32]}.jsonl"

    def _let_go(self) -> None:
        files = list(self._folder.glob("*.jsonl"))
        if len(files) <= MOST_FILES:
            return
        files.sort(key=lambda path: path.stat().st_mtime)
        for path in files[: len(files) - MOST_FILES]:
            path.unlink(missing_ok=True)
