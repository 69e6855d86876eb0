"""The asynchronous client."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self, TypeVar

import anyio
import httpx

from tornado_rt_client import connecting, verbs
from tornado_rt_client.base import BaseClient
from tornado_rt_client.errors import ApiError, ConnectionLost, error_of_answer
from tornado_rt_client.events import Event
from tornado_rt_client.following import Following
from tornado_rt_client.inbox import AsyncInbox
from tornado_rt_client.records import Estimate, Kind, Notification, TaskRecord
from tornado_rt_client.request import Attempts, Request
from tornado_rt_client.schedules import AsyncSchedules
from tornado_rt_client.task import AsyncBatch, AsyncTask
from tornado_rt_client.tokens import AsyncToken, authorization_async

T = TypeVar("T")
E = TypeVar("E", bound=Event)


class AsyncClient(BaseClient[httpx.AsyncClient, AsyncToken]):
    """Speaks to one server as one user."""

    _transport = httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; streams end with an error."""
        await self._http.aclose()

    async def submit(
        self, kind: str, params: Any = None, *, idempotency_key: str | None = None, **more: Any
    ) -> AsyncTask:
        """Submit a task. `more` are `label`, `priority`, `key`, `unique`, `delay`, `tags`, …

        It is made once, whatever happens on the way; with a key of your own also if you call again.
        """
        return AsyncTask(self, await self.send(verbs.submit(kind, params, more, idempotency_key)))

    async def estimate(
        self, kind: str, params: Any = None, *, idempotency_key: str | None = None, **more: Any
    ) -> Estimate:
        """Say when a task would start and end if it were submitted now, as `submit` takes it.

        Nothing is submitted. Raise as `submit` does.
        """
        return await self.send(verbs.estimate(kind, params, more, idempotency_key))

    async def submit_batch(
        self,
        kind: str,
        items: Iterable[Any],
        *,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> AsyncBatch:
        """Submit tasks of one kind, one for each of `items`, their parameters; all or none."""
        return AsyncBatch(
            self, await self.send(verbs.submit_batch(kind, items, more, idempotency_key))
        )

    async def estimate_batch(
        self,
        kind: str,
        items: Iterable[Any],
        *,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Estimate:
        """Say when a batch would start and end if it were submitted now, as `submit_batch` does."""
        return await self.send(verbs.estimate_batch(kind, items, more, idempotency_key))

    def task(self, task_id: str) -> AsyncTask:
        """Return the task of this id; nothing is asked of the server."""
        return AsyncTask(self, task_id)

    def batch(self, batch_id: str) -> AsyncBatch:
        """Return the batch of this id; nothing is asked of the server."""
        return AsyncBatch(self, batch_id)

    def tasks(self, **filters: Any) -> AsyncGenerator[TaskRecord, None]:
        """Iterate over one's tasks, the newest first: `kind`, `status`, `tag`, `q`, `since`, …"""
        return self.pages(verbs.list_tasks(filters))

    async def kinds(self) -> list[Kind]:
        """Return the kinds of work that can be submitted."""
        return await self.send(verbs.list_kinds())

    async def notify(
        self, user_id: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Notification:
        """Send a notification: `type`, `title`, `content`, `link`, `severity`, `metadata`, …"""
        return await self.send(verbs.notify(user_id, fields, idempotency_key))

    def inbox(self, **filters: Any) -> AsyncInbox:
        """Return one's notifications: those that `state`, `status`, `type`, `q`, … find."""
        return AsyncInbox(self, filters)

    async def publish(self, topic: str, data: Any = None) -> str:
        """Publish on a topic of the application; return the id of the message.

        If the connection is lost meanwhile, nobody knows whether it was published.
        """
        return await self.send(verbs.publish(topic, data))

    def subscribe(self, *topics: str, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Iterate over what `me`, `tasks`, `task:ID`, `batch:ID`, topics of your own bring."""
        return self.follow(verbs.subscribe(topics), timeout)

    def schedules(self, **filters: Any) -> AsyncSchedules:
        """Return one's schedules."""
        return AsyncSchedules(self, filters)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask an endpoint that has no verb here; return its JSON."""
        return await self.send(verbs.ask(method, path, body))

    async def send(self, request: Request[T]) -> T:
        """Send a request, again where that may help. Raise ApiError, ConnectionLost."""
        attempts = Attempts(request, time.monotonic(), self._backoff, self._patience)
        while True:
            try:
                return await self._attempt(request)
            except (ApiError, ConnectionLost) as error:
                wait = attempts.pause(error, time.monotonic())
            await anyio.sleep(wait)

    async def pages(self, pages: verbs.Pages[T]) -> AsyncGenerator[T, None]:
        """Iterate over all pages of a list."""
        place: str | None = None
        while True:
            page = await self.send(pages(place))
            for item in page.items:
                yield item
            if page.next is None:
                return
            place = page.next

    async def follow(
        self, following: Following[E], timeout: float | None = None
    ) -> AsyncGenerator[E, None]:
        """Iterate over a stream, and resume it after every cut.

        Raise TimeoutError after `timeout` seconds, ApiError when the server refuses it.
        """
        following.clock = self._clock
        following.begin(time.monotonic(), timeout, self._backoff, self._patience)
        while not following.is_over:
            error: ApiError | ConnectionLost | None = None
            try:
                async with aclosing(self._read(following)) as events:
                    async for event in events:
                        yield event
            except httpx.TransportError as lost:
                error = connecting.lost(lost)
            except ApiError as refusal:
                following.refused(refusal)
                error = refusal
            if not following.is_over:
                await anyio.sleep(following.pause(time.monotonic(), error))

    async def _attempt(self, request: Request[T]) -> T:
        try:
            response = await self._http.request(
                request.method,
                request.path,
                params=request.params,
                content=request.content(),
                headers={**request.headers(), **await authorization_async(self._token)},
            )
        except httpx.TransportError as error:
            raise connecting.lost(error) from error
        return request.answer(response.status_code, response.headers, response.content)

    async def _read(self, following: Following[E]) -> AsyncGenerator[E, None]:
        """Read one connection to its end."""
        async with self._open(following) as response:
            chunks = response.aiter_bytes()
            while not (following.is_over or following.is_cut):
                now = time.monotonic()
                chunk = await _within(_next_of(chunks), following.read_until(now), now)
                if chunk is None:
                    return
                for event in following.receive(chunk, time.monotonic()):
                    yield event

    @asynccontextmanager
    async def _open(self, following: Following[Any]) -> AsyncGenerator[httpx.Response, None]:
        now = time.monotonic()
        seconds = following.opening_seconds(now)
        request = self._http.build_request(
            "GET",
            following.path,
            params=following.params,
            headers={**following.headers(), **await authorization_async(self._token)},
            timeout=connecting.opening_timeout(seconds),
        )
        response = await _within(self._http.send(request, stream=True), now + seconds, now)
        try:
            if response.status_code >= 400:
                content = await response.aread()
                raise error_of_answer(response.status_code, response.headers, content)
            following.opened(response.status_code, response.headers.get("content-type", ""))
            connecting.unbind(response)
            yield response
        finally:
            await response.aclose()


async def _next_of(chunks: AsyncIterator[bytes]) -> bytes | None:
    """Return the next piece of a stream, None at its end."""
    return await anext(chunks, None)


async def _within(awaited: Awaitable[T], at: float | None, now: float) -> T:
    """Wait until a moment at most, None: without end. Raise httpx.ReadTimeout then."""
    try:
        with anyio.fail_after(None if at is None else at - now):
            return await awaited
    except TimeoutError:
        raise httpx.ReadTimeout("nothing came") from None
