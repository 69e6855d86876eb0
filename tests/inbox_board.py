"""Facts that the processes of the inbox walk share at once: a file that all have mapped."""

import mmap
from pathlib import Path

PROCESSES = 4


class Board:
    """For each process how many operations it has done, and for each user the highest version that
    it has answered or shown: any read that begins later, in any process, must reach it.
    """

    def __init__(self, path: Path, users: list[str], process: int = 0) -> None:
        self._users = {user: number for number, user in enumerate(users)}
        self._process = process
        self._width = len(users) + 1
        size = 8 * self._width * PROCESSES
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), size)).cast("q")

    def floor(self, user: str) -> int:
        """Return the version that a reader must get now."""
        at = self._users[user]
        return max(self._numbers[at + self._width * process] for process in range(PROCESSES))

    def raise_floor(self, user: str, version: int) -> None:
        """Note that somebody got this version."""
        at = self._users[user] + self._width * self._process
        self._numbers[at] = max(self._numbers[at], version)

    def done(self, process: int) -> int:
        """Return how many operations a process has done."""
        return self._numbers[self._width * process + self._width - 1]

    def add_done(self) -> None:
        """Count one operation more of this process."""
        self._numbers[self._width * self._process + self._width - 1] += 1
