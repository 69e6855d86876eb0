"""The base of every HTTP endpoint: identity, bounds, headers, and problem documents.

It is long because each request passes all of it, from its head to its problem document.
"""

import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bind_contextvars
from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import (
    HTTPError,
    OutputTransform,
    RequestHandler,
    stream_request_body,
)

from tornado_rt.auth import (
    ADMIN,
    AuthError,
    Identity,
    NoCredentials,
    TokenVerifier,
    challenge,
    check_identity,
)
from tornado_rt.credentials import find_credential
from tornado_rt.hub import Hub
from tornado_rt.keys import KeysUnavailable
from tornado_rt.limits import RateLimiter, network_of
from tornado_rt.locales import Words, accepted
from tornado_rt.problems import CONTENT_TYPE, STORE_ERRORS, Problem, log_problem, problem_of
from tornado_rt.protocol import Cursor
from tornado_rt.reader import Reader, reader_of
from tornado_rt.request_id import HEADER as REQUEST_ID
from tornado_rt.request_id import request_id_of
from tornado_rt.tickets import Tickets
from tornado_rt.tracing import Served, serving, template_of
from tornado_rt.under_way import UnderWay
from tornado_rt.wire import is_left
from tornado_rt.work.texts import phrase

log = structlog.get_logger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
# Says who sends a request, by an application's own sign-in; None for nobody.
Authenticate = Callable[[HTTPServerRequest], Identity | Awaitable[Identity | None] | None]

# Headers that a page of a trusted origin may always send, and those that it may read.
CORS_HEADERS = "Authorization, Content-Type, Last-Event-ID, Idempotency-Key, X-Request-Id"
CORS_EXPOSED = "Allow, ETag, Link, Location, Retry-After, WWW-Authenticate, X-Request-Id"
CORS_SECONDS = 7200
NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD
# A list of header names, as a preflight asks for (RFC 9110 section 5.6.2).
TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
HEADER_NAMES = re.compile(rf"{TOKEN}(?:[ \t]*,[ \t]*{TOKEN})*")
POLICY = "default-src 'none'; frame-ancestors 'none'"
HARDENED = {
    "Server": "tornado_rt",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
}
HSTS_SECONDS = 365 * 86400
# No body has a length of more digits.
LENGTH_DIGITS = 18
BODY_METHODS = {"POST", "PUT", "PATCH"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# Names of the last id in the query, as `_plain_name` has them, for clients that send no header.
# The value that a polyfill adds is newer than the `last_id` of the address that it was given.
LAST_ID_NAMES = ("lasteventid", "evslasteventid", "lastid")


@stream_request_body
class BaseHandler(RequestHandler):
    """Identity and problem documents, for every endpoint. A body is passed over, within a bound.

    `limited`: requests count towards the rate of their address; `identifies`: credentials are read.

    It is wide because most of its methods are hooks that Tornado calls.
    """

    limited = True
    identifies = True
    # A probe asks every few seconds: its log line is for debugging only.
    is_probe = False
    # Why there is no identity; shown where one is needed, and nowhere else.
    credentials_error: Exception | None = None
    # Whether a ticket was shown in place of a token, and which of those is still to be spent.
    by_ticket = False
    by_cookie = False
    # Whether a GET leads to changes: a socket's does.
    get_changes = False
    # Whether the request may do what it does because it is an admin's.
    as_admin = False
    _unspent = ""
    # A socket redeems its ticket after the handshake.
    redeems_itself = False
    _body_bytes = 0
    _request_id = ""
    # Whether its address is one of ours, which spans are named by.
    has_route = True
    _span: Served | None = None
    _read_by: Reader | None = None

    @property
    def hub(self) -> Hub:
        """The hub of this process."""
        hub: Hub = self.settings["hub"]
        return hub

    @property
    def request_id(self) -> str:
        """The id of the request, in its log lines and in the answer."""
        if not self._request_id:
            self._request_id = request_id_of(self.request.headers)
        return self._request_id

    @property
    def identity(self) -> Identity:
        """The identity of the request. Raise Problem 401 without one."""
        identity: Identity | None = self.current_user
        if identity is None:
            raise self.credentials_error or NoCredentials(phrase("no credentials"))
        return identity

    @property
    def read_by(self) -> Reader:
        """The reader of the answer: the argument `locale` wins over `Accept-Language`."""
        if self._read_by is None:
            named = self.get_query_arguments("locale")[:1]
            header = self.request.headers.get("Accept-Language", "")
            self._read_by = reader_of(self.settings, (*named, *accepted(header)))
        return self._read_by

    def tell_language(self, words: Words) -> None:
        """Say in which language the answer is, and that another request may get another."""
        self.set_header("Content-Language", words.tag)
        self.add_header("Vary", "Accept-Language")

    @property
    def address(self) -> str:
        """The peer's address, as requests and connections are counted by it."""
        return network_of(self.request.remote_ip or "local")

    @property
    def is_left(self) -> bool:
        """Whether the client has left: nobody would read an answer."""
        # Tornado's type does not say that it has a stream.
        connection: Any = self.request.connection
        return is_left(connection.stream)

    def at(self, path: str) -> str:
        """Return where a path of ours is on this server: under the prefix, if there is one."""
        return f"{self.settings['prefix']}{path}"

    def _execute(  # type: ignore[override]
        self, transforms: list[OutputTransform], *args: bytes, **kwargs: bytes
    ) -> "asyncio.Task[None]":
        # Tornado would look at length what kind of awaitable it is, and make a task of it as well.
        execution = self._execute_under_way(transforms, *args, **kwargs)
        return asyncio.get_running_loop().create_task(execution)

    async def _execute_under_way(
        self, transforms: list[OutputTransform], *args: bytes, **kwargs: bytes
    ) -> None:
        under_way: UnderWay = self.settings["under_way"]
        task = under_way.add(self)
        try:
            await super()._execute(transforms, *args, **kwargs)
        finally:
            under_way.remove(task)

    async def prepare(self) -> None:
        """Check the bounds, then the credentials, all before the body comes."""
        bind_contextvars(request_id=self.request_id)
        if not self.is_probe:
            self._span = serving(self.request, self._route, self.request_id)
        if self.limited:
            self._limit_rate()
        self._check_size(announced_bytes(self.request))
        if self.request.method not in self._allowed():
            raise HTTPError(405)
        self.check_request()
        if self.identifies and self.request.method != "OPTIONS":
            self._start_deadline(asyncio.current_task())
            await self._identify()

    def check_request(self) -> None:
        """Raise Problem for an invalid request; no store is asked before."""

    def wants_json(self) -> bool:
        """Say whether the client asked for JSON rather than an event stream."""
        accept = self.request.headers.get("Accept", "").lower()
        return "application/json" in accept and "text/event-stream" not in accept

    def data_received(self, chunk: bytes) -> None:
        """Pass over a body, and answer at once when it grows too large."""
        self._body_bytes += len(chunk)
        try:
            self._check_size(self._body_bytes)
        except Problem as problem:
            if not self._finished:
                self.send_error(413, exc_info=(Problem, problem, None))

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer as GET does; Tornado leaves the body out."""
        answered: Any = self.get(*args, **kwargs)
        await answered

    async def options(self, *_: str) -> None:
        """Answer a preflight; the headers of every answer say what it may do."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(self._allowed()))

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Refuse the request at a stop, and cancel what works on it."""
        self._refuse_late(Problem(503, phrase("the server stops; try again"), retry_after=1), task)

    def detach(self) -> IOStream:
        """Hand over the stream. From then on it has no deadline, and no span."""
        self._stop_deadline()
        self._end_span()
        return super().detach()

    def on_finish(self) -> None:
        """Give up the deadline, and end the span."""
        self._stop_deadline()
        self._end_span()

    def on_connection_close(self) -> None:
        """Give up the body. The request under way is still bounded by its deadline."""
        # A socket's own method does not come so far.
        RequestHandler.on_connection_close(self)
        super().on_connection_close()

    def _handle_request_exception(self, e: BaseException) -> None:
        """Say nothing to a client that has left, and log no fault: there is none."""
        if isinstance(e, StreamClosedError) and self.is_left:
            if not self._finished:
                self.finish()
            return
        super()._handle_request_exception(e)

    def compute_etag(self) -> str | None:
        """Tag no answer: it is one user's, and no cache keeps it."""
        return None

    def require(self, scope: str) -> None:
        """Raise Problem 403 unless the identity has the scope."""
        if not self.identity.may(scope):
            raise Problem(403, phrase("this needs the scope {scope}", scope=scope))
        self.as_admin = self.as_admin or scope == ADMIN

    def last_id(self) -> Cursor | None:
        """Return the cursor that the client resumes from. Raise Problem 400 for a bad one."""
        text = self.last_id_text()
        if not text:
            return None
        try:
            return Cursor.parse(text)
        except ValueError as error:
            raise Problem(400, str(error)) from None

    def last_id_text(self) -> str:
        """Return the id that the client resumes from as it came, "" without one."""
        return self.request.headers.get("Last-Event-ID") or self._queried_last_id()

    def _queried_last_id(self) -> str:
        spelled = {_plain_name(name): name for name in self.request.query_arguments}
        asked = (self.get_query_argument(spelled[one]) for one in LAST_ID_NAMES if one in spelled)
        return next(filter(None, asked), "")

    def set_default_headers(self) -> None:
        """Harden every answer; no cache keeps what belongs to one user."""
        # They need none of the checks of `set_header`.
        self._headers.update(HARDENED)
        self._headers[REQUEST_ID] = self.request_id
        if self.request.protocol == "https":
            self.set_header("Strict-Transport-Security", f"max-age={HSTS_SECONDS}")
        self._allow_origin()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a problem document; never a traceback."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        problem = self._problem_of(status_code, error)
        self.set_status(problem.status_code)
        if problem.retry_after is not None:
            self.set_header("Retry-After", problem.retry_after_seconds)
        if problem.status_code == 426:
            self.set_header("Upgrade", "websocket")
        if problem.status_code == 405:
            self.set_header("Allow", ", ".join(self._allowed()))
        if problem.status_code == 401:
            self.set_header("WWW-Authenticate", challenge(error))
        self.set_header("Content-Type", CONTENT_TYPE)
        self.tell_language(self.read_by.words)
        self.finish(problem.document(self.read_by.words))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log a fault of the server, with its traceback; not one of the caller."""
        log_problem(self._problem_of(500, value), value, path=self.request.path)

    def _problem_of(self, status: int, error: BaseException | None) -> Problem:
        return problem_of(error, self.settings.get("problems", {}), status)

    def _allow_origin(self) -> None:
        # CORS (WHATWG Fetch section 3.3), for the origins that the settings trust.
        trusted = self.settings.get("trusted_origins", ())
        if not trusted:
            return
        self.set_header("Vary", "Origin")
        origin = self.request.headers.get("Origin", "")
        if origin in trusted:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", CORS_EXPOSED)
            if self.request.method == "OPTIONS":
                self.set_header("Access-Control-Allow-Methods", ", ".join(self._allowed()))
                self.set_header("Access-Control-Allow-Headers", self._allowed_headers())
                self.set_header("Access-Control-Max-Age", str(CORS_SECONDS))

    def _allowed_headers(self) -> str:
        # A trusted origin may send what it asks to send: tracing headers and the like.
        asked = self.request.headers.get("Access-Control-Request-Headers", "")
        return f"{CORS_HEADERS}, {asked}" if HEADER_NAMES.fullmatch(asked) else CORS_HEADERS

    def _allowed(self) -> Sequence[str]:
        # mypy takes no class for something that can be hashed.
        own: Any = type(self)
        return _methods_of(own)

    def _cross_origin_protection(self) -> None:
        try:
            super()._cross_origin_protection()
        except ValueError:
            raise Problem(403, phrase("the Origin is no origin")) from None

    @property
    def most_body_bytes(self) -> int:
        """Return how large a body may be; 0 for any size."""
        limit: int = self.settings.get("max_body_bytes", 0)
        return limit

    def _check_size(self, size: int) -> None:
        limit = self.most_body_bytes
        if limit and size > limit:
            raise Problem(413, phrase("the body is larger than {limit} bytes", limit=limit))

    def _start_deadline(self, task: "asyncio.Task[Any] | None") -> None:
        # The time that the body takes is not ours: it has its own bound.
        if task is not None:
            under_way: UnderWay = self.settings["under_way"]
            under_way.begin(self, task)

    def _stop_deadline(self) -> None:
        under_way: UnderWay = self.settings["under_way"]
        under_way.pause(self)

    def refuse_slow(self, task: "asyncio.Task[Any]") -> None:
        """Refuse the request as it takes too long, and cancel what works on it."""
        self._refuse_late(
            Problem(503, phrase("this took too long; try again"), retry_after=1), task
        )

    def _refuse_late(self, problem: Problem, task: "asyncio.Task[Any]") -> None:
        if task.done() or self._finished or self._headers_written:
            return
        log_problem(problem, problem, path=self.request.path)
        self.send_error(503, exc_info=(Problem, problem, None))
        task.cancel()

    def _route(self) -> str:
        """Return the template of the address, "" where there is none."""
        if not self.has_route:
            return ""
        # mypy takes no class for something that can be hashed.
        own: Any = type(self)
        return template_of(self.request.path, self.path_args, _names_of(own))

    def _end_span(self) -> None:
        if self._span is not None:
            self._span.end(self.get_status())

    def _limit_rate(self) -> None:
        limiter: RateLimiter = self.settings["rate_limiter"]
        wait = limiter.wait(self.address)
        if wait:
            raise Problem(429, phrase("too many requests"), retry_after=wait)

    async def redeem(self) -> None:
        """Spend the ticket that came in place of a token, if one did. Called once it is served."""
        ticket, self._unspent = self._unspent, ""
        if ticket:
            # Until it is spent it says nothing.
            self.current_user = None
            tickets: Tickets = self.settings["tickets"]
            address = self.stream_address()
            spent = tickets.redeem(ticket) if address is None else tickets.keep(ticket, address)
            await self._know(spent)

    def stream_address(self) -> str | None:
        """Return the address that this event stream is opened again by; None for what is none."""
        return None

    async def _identify(self) -> None:
        """Read the credentials, without spending a ticket."""
        if self.request.method != "OPTIONS":
            await self._know(self._look())

    async def _look(self) -> Identity | None:
        shown = find_credential(self.request.headers, self.get_query_arguments)
        authenticate: Authenticate | None = self.settings.get("authenticate")
        if authenticate is not None and (shown.by_cookie or not (shown.ticket or shown.token)):
            return await self._ask(authenticate)
        self.by_ticket, self.by_cookie = bool(shown.ticket), shown.by_cookie
        if shown.by_cookie:
            self._check_page()
        if shown.token:
            verifier: TokenVerifier = self.settings["verifier"]
            return await verifier.verify(shown.token)
        if not shown.ticket:
            return None
        tickets: Tickets = self.settings["tickets"]
        identity = await tickets.look(shown.ticket, self.stream_address())
        if self.request.method != "HEAD":
            self._redeem_when_served(shown.ticket)
        return identity

    async def _ask(self, authenticate: Authenticate) -> Identity | None:
        """Return the user that the application signed in; errors of its function are its own."""
        found = authenticate(self.request)
        if inspect.isawaitable(found):
            found = await found
        if found is None:
            return None
        # Whether by a cookie is not known: browsers send other things by themselves too.
        self.by_cookie = True
        self._check_page()
        return check_identity(found)

    def _check_page(self) -> None:
        """Raise Problem 403 for a change by a cookie that does not say which page asks for it.

        Browsers send a cookie by themselves. All requests are checked for pages that may, by the
        words of browsers about them (Fetch Metadata); here these must be present.
        """
        headers = self.request.headers
        changes = self.get_changes or self.request.method not in SAFE_METHODS
        if changes and "Sec-Fetch-Site" not in headers and "Origin" not in headers:
            raise Problem(
                403, phrase("a change by cookie needs Sec-Fetch-Site or Origin; or show a token")
            )

    def _redeem_when_served(self, ticket: str) -> None:
        self._unspent = ticket
        name = str(self.request.method).lower()
        if self.redeems_itself or name.upper() not in self._allowed():
            return
        serve = getattr(self, name)

        async def redeem_and_serve(*args: str, **kwargs: str) -> None:
            # The next one is of the class again, and nothing refers to itself.
            self.__dict__.pop(name, None)
            await self.redeem()
            # A method need not be a coroutine.
            if (served := serve(*args, **kwargs)) is not None:
                await served

        setattr(self, name, redeem_and_serve)

    async def _know(self, identity: Awaitable[Identity | None]) -> None:
        try:
            self.current_user = await identity
            if self.current_user is not None:
                bind_contextvars(user_id=self.current_user.user_id)
                if self._span is not None:
                    self._span.name_user(self.current_user.user_id)
        except (AuthError, KeysUnavailable, *STORE_ERRORS) as error:
            self.credentials_error = error


def refuse_without_folder(settings: dict[str, Any]) -> None:
    """Raise Problem 503 while what is written would be lost: its folder has gone."""
    find_fault: Callable[[], str | None] | None = settings.get("folder_fault")
    fault = None if find_fault is None else find_fault()
    if fault:
        raise Problem(503, phrase("nothing can be stored: {fault}", fault=fault), retry_after=1)


@functools.cache
def _names_of(handler: Any) -> Sequence[str]:
    """Return the names of what the methods of a handler get of an address."""
    named = (
        [one.name for one in inspect.signature(method).parameters.values() if one.kind is NAMED]
        for method in (getattr(handler, verb.lower()) for verb in handler.SUPPORTED_METHODS)
    )
    # Without `self`.
    return max(named, key=len)[1:]


@functools.cache
def _methods_of(handler: Any) -> Sequence[str]:
    """Return the methods that a handler has."""
    unimplemented = RequestHandler._unimplemented_method
    methods = [m for m in handler.SUPPORTED_METHODS if m != "HEAD"]
    own = [m for m in methods if getattr(handler, m.lower()) is not unimplemented]
    return ["HEAD", *own] if "GET" in own else own


class NotFoundHandler(BaseHandler):
    """404 as a problem document, for every address that is not ours."""

    identifies = False
    has_route = False

    async def prepare(self) -> None:
        """Answer before the body comes."""
        await super().prepare()
        if self.request.method != "OPTIONS":
            raise Problem(404, phrase("there is nothing at this address"))

    def _allowed(self) -> Sequence[str]:
        return self.SUPPORTED_METHODS


def announced_bytes(request: HTTPServerRequest) -> int:
    """Return how large a body was announced; 0 for none, and for one in chunks."""
    text = request.headers.get("Content-Length", "0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LENGTH_DIGITS else 0


def is_last_id(name: str) -> bool:
    """Say whether a query argument is the id that a client comes back with."""
    return _plain_name(name) in LAST_ID_NAMES


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
