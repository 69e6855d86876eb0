"""The synchronous client."""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import httpx

from tornado_rt_client import connecting, verbs
from tornado_rt_client.base import BaseClient
from tornado_rt_client.errors import ApiError, ConnectionLost, error_of_answer
from tornado_rt_client.events import Event
from tornado_rt_client.following import Following
from tornado_rt_client.inbox import Inbox
from tornado_rt_client.records import Estimate, Kind, Notification, TaskRecord
from tornado_rt_client.request import Attempts, Request
from tornado_rt_client.schedules import Schedules
from tornado_rt_client.task import Batch, Task
from tornado_rt_client.tokens import Token, authorization
from tornado_rt_client.watchdog import Watchdog

T = TypeVar("T")
E = TypeVar("E", bound=Event)


class Client(BaseClient[httpx.Client, Token]):
    """Speaks to one server as one user. Threads may share it."""

    _transport = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; streams end with an error."""
        self._http.close()

    def submit(
        self, kind: str, params: Any = None, *, idempotency_key: str | None = None, **more: Any
    ) -> Task:
        """Submit a task. `more` are `label`, `priority`, `key`, `unique`, `delay`, `tags`, …

        It is made once, whatever happens on the way; with a key of your own also if you call again.
        """
        return Task(self, self.send(verbs.submit(kind, params, more, idempotency_key)))

    def estimate(
        self, kind: str, params: Any = None, *, idempotency_key: str | None = None, **more: Any
    ) -> Estimate:
        """Say when a task would start and end if it were submitted now, as `submit` takes it.

        Nothing is submitted. Raise as `submit` does.
        """
        return self.send(verbs.estimate(kind, params, more, idempotency_key))

    def submit_batch(
        self,
        kind: str,
        items: Iterable[Any],
        *,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Batch:
        """Submit tasks of one kind, one for each of `items`, their parameters; all or none."""
        return Batch(self, self.send(verbs.submit_batch(kind, items, more, idempotency_key)))

    def estimate_batch(
        self,
        kind: str,
        items: Iterable[Any],
        *,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Estimate:
        """Say when a batch would start and end if it were submitted now, as `submit_batch` does."""
        return self.send(verbs.estimate_batch(kind, items, more, idempotency_key))

    def task(self, task_id: str) -> Task:
        """Return the task of this id; nothing is asked of the server."""
        return Task(self, task_id)

    def batch(self, batch_id: str) -> Batch:
        """Return the batch of this id; nothing is asked of the server."""
        return Batch(self, batch_id)

    def tasks(self, **filters: Any) -> Generator[TaskRecord, None, None]:
        """Iterate over one's tasks, the newest first: `kind`, `status`, `tag`, `q`, `since`, …"""
        return self.pages(verbs.list_tasks(filters))

    def kinds(self) -> list[Kind]:
        """Return the kinds of work that can be submitted."""
        return self.send(verbs.list_kinds())

    def notify(
        self, user_id: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Notification:
        """Send a notification: `type`, `title`, `content`, `link`, `severity`, `metadata`, …"""
        return self.send(verbs.notify(user_id, fields, idempotency_key))

    def inbox(self, **filters: Any) -> Inbox:
        """Return one's notifications: those that `state`, `status`, `type`, `q`, … find."""
        return Inbox(self, filters)

    def publish(self, topic: str, data: Any = None) -> str:
        """Publish on a topic of the application; return the id of the message.

        If the connection is lost meanwhile, nobody knows whether it was published.
        """
        return self.send(verbs.publish(topic, data))

    def subscribe(self, *topics: str, timeout: float | None = None) -> Generator[Event, None, None]:
        """Iterate over what `me`, `tasks`, `task:ID`, `batch:ID`, topics of your own bring."""
        return self.follow(verbs.subscribe(topics), timeout)

    def schedules(self, **filters: Any) -> Schedules:
        """Return one's schedules."""
        return Schedules(self, filters)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask an endpoint that has no verb here; return its JSON."""
        return self.send(verbs.ask(method, path, body))

    def send(self, request: Request[T]) -> T:
        """Send a request, again where that may help. Raise ApiError, ConnectionLost."""
        attempts = Attempts(request, time.monotonic(), self._backoff, self._patience)
        while True:
            try:
                return self._attempt(request)
            except (ApiError, ConnectionLost) as error:
                wait = attempts.pause(error, time.monotonic())
            time.sleep(wait)

    def pages(self, pages: verbs.Pages[T]) -> Generator[T, None, None]:
        """Iterate over all pages of a list."""
        place: str | None = None
        while True:
            page = self.send(pages(place))
            yield from page.items
            if page.next is None:
                return
            place = page.next

    def follow(
        self, following: Following[E], timeout: float | None = None
    ) -> Generator[E, None, None]:
        """Iterate over a stream, and resume it after every cut.

        Raise TimeoutError after `timeout` seconds, ApiError when the server refuses it.
        """
        following.clock = self._clock
        following.begin(time.monotonic(), timeout, self._backoff, self._patience)
        while not following.is_over:
            error: ApiError | ConnectionLost | None = None
            try:
                yield from self._read(following)
            except httpx.TransportError as lost:
                error = connecting.lost(lost)
            except ApiError as refusal:
                following.refused(refusal)
                error = refusal
            if not following.is_over:
                time.sleep(following.pause(time.monotonic(), error))

    def _attempt(self, request: Request[T]) -> T:
        try:
            response = self._http.request(
                request.method,
                request.path,
                params=request.params,
                content=request.content(),
                headers={**request.headers(), **authorization(self._token)},
            )
        except httpx.TransportError as error:
            raise connecting.lost(error) from error
        return request.answer(response.status_code, response.headers, response.content)

    def _read(self, following: Following[E]) -> Generator[E, None, None]:
        """Read one connection to its end."""
        with self._open(following) as response, Watchdog(_socket_of(response)) as watchdog:
            chunks = response.iter_bytes()
            while not (following.is_over or following.is_cut):
                watchdog.wait_until(following.read_until(time.monotonic()))
                chunk = next(chunks, None)
                # The reader may take its time over what came.
                watchdog.wait_until(None)
                if chunk is None:
                    return
                yield from following.receive(chunk, time.monotonic())

    @contextmanager
    def _open(self, following: Following[Any]) -> Generator[httpx.Response, None, None]:
        seconds = following.opening_seconds(time.monotonic())
        with self._http.stream(
            "GET",
            following.path,
            params=following.params,
            headers={**following.headers(), **authorization(self._token)},
            timeout=connecting.opening_timeout(seconds),
        ) as response:
            if response.status_code >= 400:
                content = response.read()
                raise error_of_answer(response.status_code, response.headers, content)
            following.opened(response.status_code, response.headers.get("content-type", ""))
            connecting.unbind(response)
            yield response


def _socket_of(response: httpx.Response) -> Any:
    """Return the socket below a response; None where a transport of another kind has none."""
    stream = response.extensions.get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")
