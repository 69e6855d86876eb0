"""Tasks and batches, by their ids."""

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from tornado_rt_client import verbs
from tornado_rt_client.events import BatchEvent, BatchFinished, Finished, TaskEvent, last_of
from tornado_rt_client.records import BatchSnapshot, Output, Snapshot, TaskRecord, Why
from tornado_rt_client.time_left import TimeLeft, starts_in, time_left

if TYPE_CHECKING:
    from tornado_rt_client.async_client import AsyncClient
    from tornado_rt_client.client import Client

E = TypeVar("E")


@attrs.frozen
class Task:
    """A task, by its id."""

    _client: "Client" = attrs.field(repr=False)
    id: str

    def watch(self, timeout: float | None = None) -> Generator[TaskEvent, None, None]:
        """Iterate over its `Progress`, the snapshot first, to its `Finished`.

        It survives every cut. Raise TimeoutError after `timeout` seconds.
        """
        return self._client.follow(verbs.watch_task(self.id), timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return its result.

        Raise TaskFailed, TaskCancelled, and TimeoutError after `timeout` seconds: it goes on then.
        """
        return last_of(Finished, _last(self.watch(timeout))).outcome()

    def time_left(self, snapshot: Snapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return how long it still takes at a moment, by a snapshot of it; None is unknown.

        The server's clock is taken into account, as far as streams have told it.
        """
        return time_left(snapshot, now, skew=self._client.skew)

    def starts_in(self, snapshot: Snapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return in how long it starts, while it waits; None is unknown."""
        return starts_in(snapshot, now, skew=self._client.skew)

    def cancel(self) -> TaskRecord:
        """Cancel it, unless it has ended; return how it is."""
        return self._client.send(verbs.cancel_task(self.id))

    def retry(self) -> None:
        """Run it again, after it failed, died or was cancelled."""
        self._client.send(verbs.retry_task(self.id))

    def read(self) -> TaskRecord:
        """Return what is known of it."""
        return self._client.send(verbs.read_task(self.id))

    def output(self) -> Output:
        """Return what it has told so far, the oldest first."""
        return self._client.send(verbs.task_output(self.id))

    def why(self) -> Why:
        """Return why it is where it is, or why its user has not heard of its end."""
        return self._client.send(verbs.why_task(self.id))


@attrs.frozen
class Batch:
    """A batch of tasks, by its id."""

    _client: "Client" = attrs.field(repr=False)
    id: str

    def watch(self, timeout: float | None = None) -> Generator[BatchEvent, None, None]:
        """Iterate over its `BatchProgress` to its `BatchFinished`."""
        return self._client.follow(verbs.watch_batch(self.id), timeout)

    def wait(self, timeout: float | None = None) -> BatchFinished:
        """Wait for its end. Raise TimeoutError after `timeout` seconds."""
        return last_of(BatchFinished, _last(self.watch(timeout)))

    def tasks(self) -> Generator[TaskRecord, None, None]:
        """Iterate over its tasks."""
        return self._client.pages(verbs.batch_tasks(self.id))

    def time_left(self, snapshot: BatchSnapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return how long it still takes at a moment, by a snapshot of it; None is unknown."""
        return time_left(snapshot, now, skew=self._client.skew)

    def cancel(self) -> BatchSnapshot:
        """Cancel what has not ended; return how it is."""
        return self._client.send(verbs.cancel_batch(self.id))

    def read(self) -> BatchSnapshot:
        """Return its state."""
        return self._client.send(verbs.read_batch(self.id))


@attrs.frozen
class AsyncTask:
    """A task, by its id."""

    _client: "AsyncClient" = attrs.field(repr=False)
    id: str

    def watch(self, timeout: float | None = None) -> AsyncGenerator[TaskEvent, None]:
        """Iterate over its `Progress`, the snapshot first, to its `Finished`.

        It survives every cut. Raise TimeoutError after `timeout` seconds.
        """
        return self._client.follow(verbs.watch_task(self.id), timeout)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return its result.

        Raise TaskFailed, TaskCancelled, and TimeoutError after `timeout` seconds: it goes on then.
        """
        return last_of(Finished, await _last_async(self.watch(timeout))).outcome()

    def time_left(self, snapshot: Snapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return how long it still takes at a moment, by a snapshot of it; None is unknown.

        The server's clock is taken into account, as far as streams have told it.
        """
        return time_left(snapshot, now, skew=self._client.skew)

    def starts_in(self, snapshot: Snapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return in how long it starts, while it waits; None is unknown."""
        return starts_in(snapshot, now, skew=self._client.skew)

    async def cancel(self) -> TaskRecord:
        """Cancel it, unless it has ended; return how it is."""
        return await self._client.send(verbs.cancel_task(self.id))

    async def retry(self) -> None:
        """Run it again, after it failed, died or was cancelled."""
        await self._client.send(verbs.retry_task(self.id))

    async def read(self) -> TaskRecord:
        """Return what is known of it."""
        return await self._client.send(verbs.read_task(self.id))

    async def output(self) -> Output:
        """Return what it has told so far, the oldest first."""
        return await self._client.send(verbs.task_output(self.id))

    async def why(self) -> Why:
        """Return why it is where it is, or why its user has not heard of its end."""
        return await self._client.send(verbs.why_task(self.id))


@attrs.frozen
class AsyncBatch:
    """A batch of tasks, by its id."""

    _client: "AsyncClient" = attrs.field(repr=False)
    id: str

    def watch(self, timeout: float | None = None) -> AsyncGenerator[BatchEvent, None]:
        """Iterate over its `BatchProgress` to its `BatchFinished`."""
        return self._client.follow(verbs.watch_batch(self.id), timeout)

    async def wait(self, timeout: float | None = None) -> BatchFinished:
        """Wait for its end. Raise TimeoutError after `timeout` seconds."""
        return last_of(BatchFinished, await _last_async(self.watch(timeout)))

    def tasks(self) -> AsyncGenerator[TaskRecord, None]:
        """Iterate over its tasks."""
        return self._client.pages(verbs.batch_tasks(self.id))

    def time_left(self, snapshot: BatchSnapshot, now: datetime | None = None) -> TimeLeft | None:
        """Return how long it still takes at a moment, by a snapshot of it; None is unknown."""
        return time_left(snapshot, now, skew=self._client.skew)

    async def cancel(self) -> BatchSnapshot:
        """Cancel what has not ended; return how it is."""
        return await self._client.send(verbs.cancel_batch(self.id))

    async def read(self) -> BatchSnapshot:
        """Return its state."""
        return await self._client.send(verbs.read_batch(self.id))


def _last(events: Iterable[E]) -> E | None:
    last = None
    for event in events:
        last = event
    return last


async def _last_async(events: AsyncIterable[E]) -> E | None:
    last = None
    async for event in events:
        last = event
    return last
