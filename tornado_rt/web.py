"""What every HTTP endpoint shares: identity, JSON bodies, and RFC 9457 problem documents."""

import http
from collections.abc import Awaitable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import cattrs
import orjson
import structlog
from cattrs import Converter
from cattrs.cols import is_sequence, list_structure_factory
from cattrs.preconf.orjson import make_converter
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from tornado_rt.auth import AuthError, Identity, NoCredentials, TokenVerifier, challenge
from tornado_rt.backplane import BackplaneDown
from tornado_rt.credentials import find_credential
from tornado_rt.hub import Hub, TooManyConnections
from tornado_rt.keys import KeysUnavailable
from tornado_rt.limits import RateLimiter
from tornado_rt.protocol import Cursor
from tornado_rt.tickets import Tickets

log = structlog.get_logger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

RETRY_AFTER_SECONDS = 1
CORS_HEADERS = "Authorization, Content-Type, Last-Event-ID, Idempotency-Key"
STORE_ERRORS = (RedisError, PyMongoError, BackplaneDown, OSError)


class Problem(HTTPError):
    """An error answer: `application/problem+json` (RFC 9457)."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, reason=http.HTTPStatus(status).phrase)
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after


def _strict(type_: type[Any]) -> Any:
    def structure(value: Any, target: type[Any]) -> Any:
        if target is not type_:
            # An enum: cattrs finds this hook for subclasses too.
            return target(value)
        if type(value) is type_:
            return value
        if type_ is float and type(value) is int:
            return float(value)
        raise ValueError(f"must be {_JSON_NAMES[type_]}")

    return structure


_JSON_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}

# cattrs would turn 1 into "1", "false" into True and "ab" into ["a", "b"]; a wrong type is the
# caller's error.
converter = make_converter(forbid_extra_keys=True)
for _type in _JSON_NAMES:
    converter.register_structure_hook(_type, _strict(_type))


@converter.register_structure_hook_factory(is_sequence)
def _strict_list(type_: Any, converter: Converter) -> Any:
    structure_items = list_structure_factory(type_, converter)

    def structure(value: Any, target: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        return structure_items(value, target)

    return structure


def structure(value: Any, shape: type[T]) -> T:
    """Read JSON into an attrs class. Raise Problem 422 with every fault named."""
    try:
        return converter.structure(value, shape)
    except cattrs.BaseValidationError as error:
        faults = cattrs.transform_error(error, path="body", format_exception=_explain)
        raise Problem(422, "the body is not valid", errors=faults) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(422, "the body is not valid", errors=[str(error)]) from None


def _explain(error: BaseException, type_: type | None) -> str:
    if isinstance(error, KeyError):
        return "required field missing"
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return f"unknown fields: {', '.join(sorted(error.extra_fields))}"
    if isinstance(error, ValueError | TypeError) and error.args:
        # attrs validators put the message first and their own objects behind it.
        return str(error.args[0])
    return f"not valid: {error}"


def problem_of(
    error: BaseException | None, statuses: Mapping[type[BaseException], int], status: int = 500
) -> Problem:
    """Translate an error; `statuses` has those of the services, `status` is that of any other."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPError):
        reason = http.HTTPStatus(error.status_code).description
        return Problem(error.status_code, error.log_message or reason)
    if isinstance(error, STORE_ERRORS):
        detail = "a store does not answer; try again"
        return Problem(503, detail, retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, KeysUnavailable):
        return Problem(503, str(error), retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, AuthError):
        return Problem(401, str(error))
    if isinstance(error, TooManyConnections):
        return Problem(429, str(error), retry_after=RETRY_AFTER_SECONDS)
    for kind, mapped in statuses.items():
        if isinstance(error, kind):
            return Problem(mapped, str(error), retry_after=getattr(error, "retry_after", None))
    return Problem(status, http.HTTPStatus(status).phrase)


def log_problem(problem: Problem, error: BaseException, **where: str) -> None:
    """Log what is our fault, with its traceback; not what is the caller's."""
    if problem.status_code == 500:
        log.error("request_failed", exc_info=error, **where)
    elif problem.status_code == 503:
        log.warning("request_refused", error=error, **where)


class BaseHandler(RequestHandler):
    """Identity and problem documents, for every endpoint."""

    # Why there is no identity; told to whoever needs one, and to nobody else.
    credentials_error: Exception | None = None
    # Whether a ticket was shown in place of a token, and which of those is still to be spent.
    by_ticket = False
    _unspent = ""
    # A socket redeems its ticket after the handshake.
    redeems_itself = False

    @property
    def hub(self) -> Hub:
        """The hub of this process."""
        hub: Hub = self.settings["hub"]
        return hub

    @property
    def identity(self) -> Identity:
        """Who asks. Raise Problem 401 for nobody."""
        if self.current_user is None:
            raise self.credentials_error or NoCredentials("no credentials")
        identity: Identity = self.current_user
        return identity

    @property
    def address(self) -> str:
        """The peer's address."""
        return self.request.remote_ip or "local"

    async def prepare(self) -> None:
        """Limit the rate, then find out who asks."""
        self._limit_rate()
        await self._identify()

    async def options(self, *_: str) -> None:
        """Answer a preflight; what it may do stands in the headers of every answer."""
        self.set_status(204)

    def require(self, scope: str) -> None:
        """Raise Problem 403 unless the identity has the scope."""
        if not self.identity.may(scope):
            raise Problem(403, f"this needs the scope {scope}")

    def last_id(self) -> Cursor | None:
        """Return the cursor that the client resumes from. Raise Problem 400 for a bad one."""
        text = self.request.headers.get("Last-Event-ID") or self.get_query_argument("last_id", "")
        if not text:
            return None
        try:
            return Cursor.parse(text)
        except ValueError as error:
            raise Problem(400, str(error)) from None

    def set_default_headers(self) -> None:
        """Harden every answer; no cache keeps what belongs to one user."""
        self.set_header("Server", "tornado_rt")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self._allow_origin()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a problem document; never a traceback."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        problem = self._problem_of(status_code, error)
        self.set_status(problem.status_code)
        if problem.retry_after is not None:
            self.set_header("Retry-After", str(max(1, round(problem.retry_after))))
        if problem.status_code == 405:
            self.set_header("Allow", ", ".join(self._allowed()))
        if problem.status_code == 401:
            self.set_header("WWW-Authenticate", challenge(error))
        self.set_header("Content-Type", "application/problem+json")
        self.finish(orjson.dumps(_document(problem)))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what is our fault, with its traceback; not what is the caller's."""
        log_problem(self._problem_of(500, value), value, path=self.request.path)

    def _problem_of(self, status: int, error: BaseException | None) -> Problem:
        return problem_of(error, self.settings.get("problems", {}), status)

    def _allow_origin(self) -> None:
        # CORS (WHATWG Fetch section 3.3), for the origins that the settings trust.
        origin = self.request.headers.get("Origin", "")
        if origin in self.settings.get("trusted_origins", ()):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Allow-Methods", ", ".join(self._allowed()))
            self.set_header("Access-Control-Allow-Headers", CORS_HEADERS)
            self.set_header("Vary", "Origin")

    def _allowed(self) -> list[str]:
        unimplemented = RequestHandler._unimplemented_method
        methods = self.SUPPORTED_METHODS
        return [m for m in methods if getattr(type(self), m.lower()) is not unimplemented]

    def _limit_rate(self) -> None:
        limiter: RateLimiter = self.settings["rate_limiter"]
        wait = limiter.wait(self.address)
        if wait:
            raise Problem(429, "too many requests", retry_after=wait)

    async def redeem(self) -> None:
        """Spend the ticket that came in place of a token, if one did. Called once it is served."""
        ticket, self._unspent = self._unspent, ""
        if ticket:
            # Until it is spent it says nothing.
            self.current_user = None
            await self._know(self.settings["tickets"].redeem(ticket))

    async def _identify(self) -> None:
        """Find out who asks, without spending anything."""
        if self.request.method != "OPTIONS":
            await self._know(self._look())

    async def _look(self) -> Identity | None:
        shown = find_credential(self.request.headers, self.get_query_arguments)
        self.by_ticket = bool(shown.ticket)
        if shown.token:
            verifier: TokenVerifier = self.settings["verifier"]
            return await verifier.verify(shown.token)
        if not shown.ticket:
            return None
        tickets: Tickets = self.settings["tickets"]
        identity = await tickets.look(shown.ticket)
        if self.request.method != "HEAD":
            self._redeem_when_served(shown.ticket)
        return identity

    def _redeem_when_served(self, ticket: str) -> None:
        self._unspent = ticket
        name = str(self.request.method).lower()
        if self.redeems_itself or name.upper() not in self._allowed():
            return
        serve = getattr(self, name)

        async def redeem_and_serve(*args: str, **kwargs: str) -> None:
            # The next one is of the class again, and nothing refers to itself.
            delattr(self, name)
            await self.redeem()
            # A method need not be a coroutine.
            if (served := serve(*args, **kwargs)) is not None:
                await served

        setattr(self, name, redeem_and_serve)

    async def _know(self, identity: Awaitable[Identity | None]) -> None:
        try:
            self.current_user = await identity
        except (AuthError, KeysUnavailable, *STORE_ERRORS) as error:
            self.credentials_error = error


@stream_request_body
class ApiHandler(BaseHandler):
    """A JSON endpoint. The body is gathered here, so that one too large gets an answer."""

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        super().__init__(application, request, **kwargs)
        self._received = bytearray()

    async def prepare(self) -> None:
        """Refuse a body that is announced as too large before it comes."""
        await super().prepare()
        announced = self.request.headers.get("Content-Length", "0")
        self._check_size(int(announced) if announced.isdecimal() else 0)

    def data_received(self, chunk: bytes) -> None:
        """Gather the body, and no more of it than is allowed."""
        if len(self._received) <= self.settings["max_body_bytes"]:
            self._received += chunk

    async def redeem(self) -> None:
        """Spend the ticket, unless the body that came is refused."""
        self._check_size(len(self._received))
        await super().redeem()

    def raw_body(self) -> bytes:
        """Return the body as it came. Raise Problem 413."""
        self._check_size(len(self._received))
        return bytes(self._received)

    def body(self, shape: type[T]) -> T:
        """Read the JSON body into an attrs class. Raise Problem 400, 413 or 422."""
        try:
            value = orjson.loads(self.raw_body())
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"the body is not JSON: {error}") from None
        return structure(value, shape)

    def wants_json(self) -> bool:
        """Say whether the client asked for JSON rather than an event stream."""
        accept = self.request.headers.get("Accept", "")
        return "application/json" in accept and "text/event-stream" not in accept

    def number(self, name: str, default: int, most: int, least: int = 1) -> int:
        """Read a query argument from `least` to `most`. Raise Problem 400."""
        text = self.get_query_argument(name, str(default))
        if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise Problem(400, f"{name} must be a number from {least} to {most}")

    def choice(self, name: str, choices: type[E]) -> E | None:
        """Read a query argument that is one of an enum's values. Raise Problem 400."""
        text = self.get_query_argument(name, None)
        try:
            return None if text is None else choices(text)
        except ValueError:
            raise Problem(400, f"{name} must be one of {', '.join(choices)}") from None

    def answer(self, value: Any, status: int = 200) -> None:
        """Finish with a JSON document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(value if isinstance(value, bytes) else orjson.dumps(value))

    def _check_size(self, size: int) -> None:
        limit: int = self.settings["max_body_bytes"]
        if size > limit:
            raise Problem(413, f"the body is larger than {limit} bytes")


class NotFoundHandler(BaseHandler):
    """404 as a problem document, for every address that is not ours."""

    async def prepare(self) -> None:
        """Answer before anything else."""
        raise Problem(404, "there is nothing at this address")


def _document(problem: Problem) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
    }
    return document | ({"errors": problem.errors} if problem.errors else {})
