"""A worker's exchange with the server over plain HTTP, where WebSockets do not get through."""

import asyncio
import ssl as tls
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson

from tornado_rt_client import connecting
from tornado_rt_client.errors import ApiError, ProtocolError, error_of_answer
from tornado_rt_client.tokens import AsyncToken, authorization_async
from tornado_rt_client.worker.outbox import Batch, Verb
from tornado_rt_client.worker.session import AGAIN_SECONDS, Session
from tornado_rt_client.worker.waiting import end_all, first_of

# The server may wait this long for a task before it answers [s].
WAIT_SECONDS = 20.0
# There is no connection whose loss tells that a worker is gone, so its leases are short [s].
LEASE_SECONDS = 30.0
# A task that runs for less time is not asked for events: its end comes first [s].
SETTLE_SECONDS = 0.5


class WorkerPolling:
    """Asks one server by HTTP."""

    def __init__(self, url: str, token: AsyncToken, ssl: tls.SSLContext | None) -> None:
        verify: dict[str, Any] = {} if ssl is None else {"verify": ssl}
        self._options = connecting.options(url, verify)
        self._token = token

    async def run(self, session: Session, wanted: asyncio.Event) -> AsyncGenerator[None, None]:
        """Ask for tasks and tell of them, and yield after each answer, until the server is away.

        `wanted` is set when the session has something to say. Raise ConnectionLost, and ApiError
        when the server refuses this worker.
        """
        async with httpx.AsyncClient(**self._options) as http:
            came = asyncio.Event()
            exchange = _Exchange(http, self._token, session, wanted, came)
            # First, and with nothing to wait for: whether the server can be asked at all.
            await exchange.claim(0, 0.0)
            session.working = True
            session.wake()
            jobs = [
                asyncio.ensure_future(job())
                for job in (exchange.ask_for_tasks, exchange.ask_for_events, exchange.speak)
            ]
            try:
                while True:
                    yield
                    await first_of(came, *jobs)
                    came.clear()
                    for job in jobs:
                        if job.done():
                            job.result()
            finally:
                await end_all(*jobs)


class _Exchange:
    """The requests of one worker, which run beside each other."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        token: AsyncToken,
        session: Session,
        wanted: asyncio.Event,
        came: asyncio.Event,
    ) -> None:
        self._http = http
        self._token = token
        self._session = session
        self._wanted = wanted
        # Set after each answer.
        self._came = came
        # Set with `wanted`, for those who ask.
        self._changed = asyncio.Event()

    async def ask_for_tasks(self) -> None:
        """Claim as many as there is room for, whenever there is some."""
        while True:
            self._changed.clear()
            if room := self._session.room:
                await self._unless_draining(asyncio.ensure_future(self.claim(room, WAIT_SECONDS)))
            else:
                await self._changed.wait()

    async def ask_for_events(self) -> None:
        """Hear of cancellations and answers for what runs, at once."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            running = self._session.running
            if not running:
                continue
            asking = asyncio.ensure_future(self.claim(0, WAIT_SECONDS))
            try:
                # It asked for those that ran then.
                while not asking.done() and all(one in running for one in self._session.running):
                    await first_of(asking, seconds=SETTLE_SECONDS)
                if asking.done():
                    asking.result()
            finally:
                await end_all(asking)

    async def speak(self) -> None:
        """Tell what the session has to say; what comes meanwhile is told together."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._changed.set()
            batches = list(self._session.outbox.take(self._session.bounds))
            await asyncio.gather(*(self._tell(batch) for batch in batches))

    async def claim(self, count: int, wait: float) -> None:
        """Ask once for tasks, and for events of what runs."""
        body = orjson.dumps(self._session.claim_body(count, wait, LEASE_SECONDS))
        answer = await self._post("claim", body, wait)
        self._session.learn_lease(answer.get("extend_seconds"))
        self._session.began(answer.get("tasks"))
        self._session.happened(answer.get("events"))
        self._came.set()

    async def _tell(self, batch: Batch) -> None:
        body = batch.body
        if batch.verb is Verb.EXTEND:
            body = b'{"lease":%g,%b' % (LEASE_SECONDS, body[1:])
        try:
            answer = await self._post(batch.verb, body, 0.0)
        except ApiError as error:
            if error.is_passing:
                self._session.outbox.again(batch.ref)
                await asyncio.sleep(error.retry_after or AGAIN_SECONDS)
                self._session.wake()
                return
            if error.status in (400, 413, 422):
                told = {"code": "bad_request", "message": str(error)}
                self._session.outbox.refuse(batch.ref, told)
                self._came.set()
                return
            raise
        self._session.outbox.answer(batch.ref, batch.verb, answer.get("items"))
        self._came.set()

    async def _unless_draining(self, asking: "asyncio.Future[None]") -> None:
        """Wait for the answer, or until none is wanted: the server takes back what it sends."""
        try:
            while not asking.done() and not self._session.draining:
                self._changed.clear()
                await first_of(asking, self._changed)
            if asking.done():
                asking.result()
        finally:
            await end_all(asking)

    async def _post(self, verb: str, body: bytes, wait: float) -> dict[str, Any]:
        """Return the answer. Raise ApiError, ConnectionLost, ProtocolError."""
        headers = {"Content-Type": "application/json", **await authorization_async(self._token)}
        timeout = httpx.Timeout(
            connecting.ANSWER_SECONDS + wait, connect=connecting.CONNECT_SECONDS
        )
        try:
            response = await self._http.post(
                f"/api/worker/{verb}", content=body, headers=headers, timeout=timeout
            )
        except httpx.TransportError as error:
            raise connecting.lost(error) from error
        if response.status_code >= 400:
            raise error_of_answer(response.status_code, response.headers, response.content)
        try:
            answer = orjson.loads(response.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ProtocolError(f"/api/worker/{verb} was not answered by a JSON object")
        return answer
