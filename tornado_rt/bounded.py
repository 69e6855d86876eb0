"""Values of which the oldest go when there are too many."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `most` values of `most_size` in all; the oldest go first."""

    def __init__(self, most: int, most_size: int = 0) -> None:
        self.values: OrderedDict[K, V] = OrderedDict()
        self._most = most
        self._most_size = most_size
        self._sizes: dict[K, int] = {}
        self._size = 0

    def find(self, key: K) -> V | None:
        """Return a value, which counts as new from here on; None when there is none."""
        value = self.values.get(key)
        if value is not None:
            self.values.move_to_end(key)
        return value

    def put(self, key: K, value: V, size: int = 0) -> None:
        """Keep a value, whatever has to go for it."""
        self.drop(key)
        self.values[key], self._sizes[key] = value, size
        self._size += size
        while len(self.values) > 1 and self._is_full():
            self.drop(next(iter(self.values)))

    def drop(self, key: K) -> None:
        """Forget a value; harmless when it is not kept."""
        if self.values.pop(key, None) is not None:
            self._size -= self._sizes.pop(key)

    def _is_full(self) -> bool:
        return len(self.values) > self._most or self._size > self._most_size > 0
