"""Context managers and iterators of a run: a step, tracked items."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Doing:
    """A step of a run, as a context manager for one block."""

    def __init__(self, inner: AbstractContextManager[None]) -> None:
        self._inner = inner
        self._entered = False

    def __enter__(self) -> None:
        if self._entered:
            raise RuntimeError("a step is for one block: call run.step again for another")
        self._entered = True
        self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.__exit__(*error)


class Tracked(Generic[T]):
    """Items of which each is reported when it is done; `tell` gets how many are done."""

    def __init__(
        self, items: Iterable[T] | AsyncIterable[T], tell: Callable[[int], object]
    ) -> None:
        self._items = items
        self._tell = tell

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._items, Iterable):
            raise TypeError("these items are for `async for`")
        for done, item in enumerate(self._items, 1):
            yield item
            self._tell(done)

    async def __aiter__(self) -> AsyncIterator[T]:
        done = 0
        async for item in _each(self._items):
            yield item
            done += 1
            self._tell(done)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
            # So that the loop serves others, and can cancel this one.
            await asyncio.sleep(0)
