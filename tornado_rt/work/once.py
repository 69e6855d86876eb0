"""Results that are made once for a task, however many attempts it has."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tornado_rt.work.kept import NotKept, as_kept
from tornado_rt.work.values import clean_line, require

MAX_ONCE_LENGTH = 200

Lock = TypeVar("Lock")


class OnceResults:
    """The kept results, as JSON by name. `most_bytes` bounds their sum, 0 for any size."""

    def __init__(self, kept: Mapping[str, bytes], most_bytes: int) -> None:
        self.kept = dict(kept)
        self._most_bytes = most_bytes
        self._turns: dict[tuple[str, object], Any] = {}
        self._lock = threading.Lock()

    def turn(self, name: str, make: Callable[[], Lock]) -> Lock:
        """Return the one lock of this sort of a name. Raise ValueError for a bad name."""
        check_name(name)
        with self._lock:
            lock: Lock = self._turns.setdefault((name, make), make())
            return lock

    @contextmanager
    def keeping(self, name: str, value: object) -> Iterator[bytes]:
        """Keep a result that the block stores; it gets the JSON. Not when the block fails.

        It counts from the beginning, for others may be under way. Raise ValueError for what cannot
        be kept.
        """
        text = self._encode(name, value)
        with self._lock:
            self._check_size(name, len(text))
            self.kept[name] = text
        try:
            yield text
        except BaseException:
            with self._lock:
                del self.kept[name]
            raise

    def check_room(self, name: str, size: int) -> None:
        """Raise ValueError when a result of this many bytes as JSON is too much."""
        with self._lock:
            self._check_size(name, size)

    def learn(self, name: str, text: bytes) -> None:
        """Take in a result that is kept already, as JSON."""
        with self._lock:
            self.kept[name] = text

    def recall(self, name: str) -> Any:
        """Return a result as JSON gives it back."""
        return json.loads(self.kept[name])

    def _encode(self, name: str, value: object) -> bytes:
        try:
            return as_kept(f"the result of once {name!r}", value, 0)
        except NotKept as fault:
            raise ValueError(str(fault)) from None

    def _check_size(self, name: str, size: int) -> None:
        whole = size + sum(len(one) for one in self.kept.values())
        require(
            not self._most_bytes or whole <= self._most_bytes,
            f"the result of once {name!r} has {size} bytes as JSON, and all of the task"
            f" {whole}; at most {self._most_bytes} are allowed",
        )


def check_name(name: object) -> None:
    """Raise ValueError for what cannot be the name of a result."""
    good = isinstance(name, str) and name != "" and name == clean_line(name, MAX_ONCE_LENGTH)
    require(good, f"the name of a result is one line of 1 to {MAX_ONCE_LENGTH} characters")
