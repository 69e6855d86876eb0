"""The whole server inside an existing Tornado application, under a prefix of its paths.

    rt = Server(Settings(prefix="/rt"), authenticate=signed_in)
    application.add_handlers(".*", [rt.rule])
    async with rt:
        ...

It lives in the application's event loop and answers through the application's own HTTP server.
Signals, logging, the event loop's policy, the garbage collector and the limits of the process stay
as the application has set them.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import orjson
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import PathMatches, Router, Rule
from tornado.web import Application

from handlers.routes import PROBLEMS
from handlers.tasks import IDEMPOTENCY_KEY_LENGTH
from services.notifications.creation import Once as SentOnce
from services.notifications.sending import SendRequest
from services.queue import Idempotency
from settings import Settings, load_settings
from tornado_rt.app import OpenedServer, Services, open_server
from tornado_rt.auth import USER_ID_LENGTH, AuthError, Identity
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.json_body import structure
from tornado_rt.limits import RateLimiter
from tornado_rt.logs import logging_in_host
from tornado_rt.problems import Problem, problem_of
from tornado_rt.under_way import UnderWay
from tornado_rt.web import Authenticate, BaseHandler
from tornado_rt.work.texts import phrase

__all__ = [
    "AuthError",
    "Authenticate",
    "Identity",
    "NotRunning",
    "Refused",
    "Server",
    "Settings",
    "load_settings",
]


class NotRunning(RuntimeError):
    """The server was not started, or is stopped."""


class Refused(Exception):
    """A call was refused; `status` and `errors` are what the HTTP API answers."""

    def __init__(self, problem: Problem) -> None:
        super().__init__("; ".join([problem.detail, *(problem.errors or ())]))
        self.status = problem.status_code
        self.errors = tuple(problem.errors or ())


class Server:
    """A server under `settings.prefix` of an application. It may be started and stopped repeatedly.

    `authenticate` gets each HTTP request, and the handshake of each WebSocket, that shows no token
    and no ticket. It returns the Identity of the user whom the application has signed in, or None;
    it may be a coroutine. Raise AuthError in it to say why there is none (401); what else it raises
    is answered with 500, an HTTPError with its status. A user who is so known changes something
    only by requests that come from a page of the same origin, or of one of
    `settings.trusted_origins`.
    """

    def __init__(self, settings: Settings, authenticate: Authenticate | None = None) -> None:
        _check_settings(settings)
        # The application may change the current folder.
        self._settings = settings.changed(data_dir=settings.server.data_dir.absolute())
        self._authenticate = authenticate
        # A start and a stop are whole, one after the other.
        self._turn = asyncio.Lock()
        self._stack: contextlib.AsyncExitStack | None = None
        self._opened: OpenedServer | None = None
        self._mount = Mount(settings.server.prefix)
        paths = PathMatches(re.escape(settings.server.prefix) + r"(?:/.*)?")
        # For the rules of the application. While the server does not run it answers 503.
        self.rule = Rule(paths, self._mount)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start in the running loop, and return once requests are served.

        Raise what kept it from starting, such as StoreError, SecretError, KindError or OSError;
        then nothing of it is left. Raise RuntimeError when it runs already.
        """
        async with self._turn:
            await self._start()

    async def stop(self) -> None:
        """Stop as the server's own process does; harmless when it does not run.

        Requests are answered, for a while; sockets are closed with 1001, running tasks get their
        grace time, and the embedded stores end.
        """
        async with self._turn:
            if self._stack is not None:
                await self._close(self._stack)

    async def notify(
        self, user_id: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Send a notification, and return it: `type`, `title`, `content`, `link`, `severity`, …

        The fields are those of `POST /api/notifications`. With a key it is sent once, however often
        this is called. Raise Refused, NotRunning.
        """
        body = {**fields, "user_id": user_id}
        with _refusals():
            once = None
            if idempotency_key is not None:
                _check_key(idempotency_key)
                # No user is named so: the keys of the application are apart from those of users.
                once = SentOnce.of("", idempotency_key, orjson.dumps(body))
            sent = await self._services.notifications.send(structure(body, SendRequest), once)
            return sent[0].to_dict()

    async def submit(
        self,
        user_id: str,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> str:
        """Submit a task of a user, and return its id.

        `more` are fields of `POST /api/tasks`: `label`, `priority`, `key`, `unique`, `delay`, …
        With a key the task is made once, however often this is called. Raise Refused, NotRunning.
        """
        body = {**more, "kind": kind, "params": dict(params or {})}
        with _refusals():
            check_name("user_id", user_id, USER_ID_LENGTH)
            once = None
            if idempotency_key is not None:
                _check_key(idempotency_key)
                once = Idempotency(idempotency_key, orjson.dumps(body))
            return (await self._services.tasks.submit(user_id, body, once)).task_id

    async def publish(self, topic: str, data: Any = None) -> str:
        """Publish on a topic of the application; return the id of the message.

        Raise Refused, NotRunning.
        """
        with _refusals():
            return await self._services.topics.publish(topic, data)

    @property
    def _services(self) -> Services:
        if self._opened is None:
            raise NotRunning("the real-time server does not run")
        return self._opened.services

    async def _start(self) -> None:
        if self._stack is not None:
            raise RuntimeError("the server runs already")
        stack = self._stack = contextlib.AsyncExitStack()
        try:
            stack.enter_context(logging_in_host())
            opened = await open_server(
                stack,
                self._settings,
                lambda: self._settings.server.public_url,
                process=_number_of(self._settings),
                authenticate=self._authenticate,
                owns_process=False,
            )
        except BaseException:
            await self._close(stack)
            raise
        stack.push_async_callback(self._leave, opened.application)
        stack.callback(opened.remote.stop)
        self._opened = opened
        self._mount.serve(opened.application)

    async def _leave(self, application: Application) -> None:
        """Send new requests away, and have those answered that are under way."""
        self._mount.rest()
        under_way: UnderWay = application.settings["under_way"]
        await under_way.end(under_way.over, self._settings.server.request_grace_seconds)

    async def _close(self, stack: contextlib.AsyncExitStack) -> None:
        try:
            await stack.aclose()
        finally:
            self._stack = self._opened = None


class Mount(Router):
    """Hands requests to the application that runs, if one does."""

    def __init__(self, prefix: str) -> None:
        self._resting = Application(
            default_handler_class=RestingHandler,
            prefix=prefix,
            under_way=UnderWay(),
            rate_limiter=RateLimiter(0),
        )
        self._serving = self._resting

    def serve(self, application: Application) -> None:
        """Hand requests to this application from here on."""
        self._serving = application

    def rest(self) -> None:
        """Answer 503 from here on."""
        self._serving = self._resting

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate:
        """Return what serves the request."""
        return self._serving.find_handler(request)


class RestingHandler(BaseHandler):
    """Stands for everything while the server does not run."""

    identifies = False

    async def prepare(self) -> None:
        """Answer before the body comes."""
        raise Problem(503, phrase("the real-time server does not run; try again"), retry_after=1)


def _check_settings(settings: Settings) -> None:
    """Raise ValueError for what an application decides, or must say."""
    if settings.server.processes > 1:
        raise ValueError("processes: the application decides in how many processes it runs")
    if settings.server.tls_certificate:
        raise ValueError("tls_certificate: the HTTP server is the application's own")
    if settings.auth.demo_login:
        raise ValueError("demo_login: the application signs its users in")
    if settings.email.smtp_url and not settings.server.public_url:
        raise ValueError("public_url: links in mail need the address, as https://app.example/rt")


def _number_of(settings: Settings) -> int | None:
    """Return what tells this process from others with the same stores; None when there are none."""
    return os.getpid() if settings.stores.redis_url else None


def _check_key(key: str) -> None:
    check_name("idempotency_key", key, IDEMPOTENCY_KEY_LENGTH)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Raise as Refused what the HTTP API answers with a problem, but for a fault of ours."""
    try:
        yield
    except OutOfBounds as error:
        raise Refused(Problem(422, str(error))) from None
    except (TypeError, orjson.JSONEncodeError) as error:
        raise Refused(
            Problem(422, phrase("the body cannot be written as JSON: {error}", error=error))
        ) from None
    except Exception as error:
        problem = problem_of(error, PROBLEMS)
        if problem.status_code == 500:
            raise
        raise Refused(problem) from error
