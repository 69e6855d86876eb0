"""The schedules of a user, which make tasks by the clock."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from tornado_rt_client import verbs
from tornado_rt_client.records import Schedule
from tornado_rt_client.task import AsyncTask, Task

if TYPE_CHECKING:
    from tornado_rt_client.async_client import AsyncClient
    from tornado_rt_client.client import Client


@attrs.frozen
class Schedules:
    """One's schedules. Iterate over it, they come by name."""

    _client: "Client" = attrs.field(repr=False)
    _filters: verbs.Filter

    def __iter__(self) -> Iterator[Schedule]:
        return self._client.pages(verbs.list_schedules(self._filters))

    def get(self, name: str) -> Schedule:
        """Return one. Raise NotFound."""
        return self._client.send(verbs.read_schedule(name))

    def put(self, name: str, **fields: Any) -> Schedule:
        """Make one, or replace it: `kind`, `params`, `cron` and `timezone`, or `every` [s], …"""
        return self._client.send(verbs.put_schedule(name, fields))

    def delete(self, name: str) -> None:
        """Drop one; its tasks stay."""
        self._client.send(verbs.delete_schedule(name))

    def run(self, name: str, *, idempotency_key: str | None = None) -> Task:
        """Make a task of one now."""
        return Task(self._client, self._client.send(verbs.run_schedule(name, idempotency_key)))


@attrs.frozen
class AsyncSchedules:
    """One's schedules. Iterate over it by `async for`, they come by name."""

    _client: "AsyncClient" = attrs.field(repr=False)
    _filters: verbs.Filter

    def __aiter__(self) -> AsyncIterator[Schedule]:
        return self._client.pages(verbs.list_schedules(self._filters))

    async def get(self, name: str) -> Schedule:
        """Return one. Raise NotFound."""
        return await self._client.send(verbs.read_schedule(name))

    async def put(self, name: str, **fields: Any) -> Schedule:
        """Make one, or replace it: `kind`, `params`, `cron` and `timezone`, or `every` [s], …"""
        return await self._client.send(verbs.put_schedule(name, fields))

    async def delete(self, name: str) -> None:
        """Drop one; its tasks stay."""
        await self._client.send(verbs.delete_schedule(name))

    async def run(self, name: str, *, idempotency_key: str | None = None) -> AsyncTask:
        """Make a task of one now."""
        return AsyncTask(
            self._client, await self._client.send(verbs.run_schedule(name, idempotency_key))
        )
