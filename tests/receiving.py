"""Receivers of posts on this machine, and deliveries that are run in the test's own loop."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
from redis.asyncio import Redis
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from services.deliveries import Deliveries, Lanes, deliveries_name
from services.deliveries.running import delivery_targets
from services.queue import QueueService
from services.worker import Worker
from settings import QueueOrder, Settings
from tests.ports import free_port
from tests.working import working


@attrs.define
class Received:
    """A receiver: its requests; it answers with `statuses`, the last one again and again."""

    statuses: list[int] = attrs.field(factory=lambda: [200])
    requests: list[HTTPServerRequest] = attrs.field(factory=list)
    headers: dict[str, str] = attrs.field(factory=dict)
    # The number of refusals of each event before.
    refused: Counter[str] = attrs.field(factory=Counter)

    @property
    def events(self) -> list[str]:
        """The ids of what has come, in its order."""
        return [one.headers.get("X-Event-Id", "") for one in self.requests]

    def next_status(self, event: str) -> int:
        """Return what the next post is answered, which is of this event."""
        if self.refused[event]:
            self.refused[event] -= 1
            return 500
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def application(self) -> Application:
        received = self

        class Receiver(RequestHandler):
            def post(self) -> None:
                received.requests.append(self.request)
                self.set_status(received.next_status(received.events[-1]))
                for name, value in received.headers.items():
                    self.set_header(name, value)

        return Application([(".*", Receiver)], log_function=lambda _: None)


@contextlib.asynccontextmanager
async def receiving(received: Received, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Run a receiver; yield its address."""
    port = free_port()
    server = HTTPServer(received.application())
    server.listen(port, host)
    try:
        yield f"http://{host}:{port}/hook"
    finally:
        server.stop()
        await server.close_all_connections()


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """Run a receiver that answers as it likes; yield its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def make_deliveries(redis: Redis, **options: Any) -> Deliveries:
    """Return deliveries as the product makes them, with other bounds."""
    named = {"name": deliveries_name("rtq"), "order": QueueOrder.FAIR}
    bounds = {"user_limit": 4, "global_limit": 0, "kept_per_user": 100}
    queue = QueueService(redis, **{**named, **bounds, **options})
    return Deliveries(queue, Lanes(redis, queue.prefix))


@contextlib.asynccontextmanager
async def delivering(
    redis: Redis, deliveries: Deliveries, *, scale: float = 0.001, concurrency: int = 16
) -> AsyncIterator[Worker]:
    """Run what is added; the waits between attempts are their own times `scale`."""
    settings = Settings(delivery_retry_scale=scale)
    await deliveries.queue.register_kinds(deliveries.entries())
    targets = delivery_targets(deliveries, settings)
    # An attempt that is about to end may: cut off while it speaks to Redis it leaves a connection
    # behind.
    async with working(redis, deliveries.queue, targets, 0.5, concurrency=concurrency) as worker:
        yield worker
