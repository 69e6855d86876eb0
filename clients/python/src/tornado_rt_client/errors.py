"""The errors of the client.

    RealtimeError
    ├── ConnectionLost        the server could not be reached (also a ConnectionError)
    ├── ProtocolError         the answer is not one of a tornado_rt server
    ├── TaskEnded             the task has no result
    │   ├── TaskFailed        it failed, or is dead
    │   └── TaskCancelled     it was cancelled
    └── ApiError              the server refused (a problem document, RFC 9457)
        ├── BadRequest        400
        ├── Unauthorized      401
        ├── Forbidden         403
        ├── NotFound          404
        ├── Conflict          409
        ├── Invalid           422
        ├── TooManyRequests   429
        └── ServerFault       any 5xx
            └── Unavailable   503

A wait that takes longer than its `timeout` raises the built-in TimeoutError.
"""

import email.utils
import json
import math
import time
from collections.abc import Mapping
from typing import Any


class RealtimeError(Exception):
    """The base of all errors here."""


class ConnectionLost(RealtimeError, ConnectionError):
    """The server could not be reached, or did not answer.

    `was_sent` says whether the request may have reached it.
    """

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class ProtocolError(RealtimeError):
    """The answer is not one of a tornado_rt server: the address may be that of another program."""


class TaskEnded(RealtimeError):
    """The task ended without a result. `status` is how, `error` the reason or None."""

    def __init__(self, task_id: str, status: str, error: str | None) -> None:
        super().__init__(f"task {task_id} is {status}" + (f": {error}" if error else ""))
        self.task_id = task_id
        self.status = status
        self.error = error


class TaskFailed(TaskEnded):
    """The task failed, or died after its last attempt."""


class TaskCancelled(TaskEnded):
    """The task was cancelled."""


class ApiError(RealtimeError):
    """The server refused a request.

    `status`, `title`, `detail` and `errors` are those of the problem document, `document` is all of
    it. `retry_after` is in seconds, or None.
    """

    def __init__(
        self, status: int, document: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        self.status = status
        self.document = document
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", ""))
        errors = document.get("errors")
        self.errors: list[str] = [str(one) for one in errors] if isinstance(errors, list) else []
        self.retry_after = retry_after
        told = "; ".join(filter(None, [self.detail or self.title, *self.errors]))
        super().__init__(f"{status} {told}".rstrip())

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in PASSING


class BadRequest(ApiError):
    """400: the request is not valid."""


class Unauthorized(ApiError):
    """401: there is no token, or it is wrong or expired."""


class Forbidden(ApiError):
    """403: the token does not allow it."""


class NotFound(ApiError):
    """404: there is none, or it belongs to another user."""


class Conflict(ApiError):
    """409: it does not fit the state that things are in."""


class Invalid(ApiError):
    """422: the body is not valid; `errors` names each fault."""


class TooManyRequests(ApiError):
    """429: a limit is reached."""


class ServerFault(ApiError):
    """5xx: the server, or a proxy before it, has failed."""


class Unavailable(ServerFault):
    """503: the server, or a store of it, does not answer now."""


# A limit, and statuses that the server or a proxy before it has only for a while.
PASSING = frozenset({429, 502, 503, 504})
_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooManyRequests,
    503: Unavailable,
}
# The `code` of a problem on an event stream, by the status that says the same.
_STATUS_OF_CODE: Mapping[str, int] = {
    "bad_request": 400,
    "bad_token": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
}


def error_of(
    status: int, document: Mapping[str, Any], retry_after: float | None = None
) -> ApiError:
    """Return the error of a status."""
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else ApiError)
    return kind(status, document, retry_after)


def error_of_answer(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """Return the error of an answer; one of a proxy may have no problem document."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    return error_of(status, document, read_retry_after(headers.get("retry-after")))


def error_of_code(code: str, message: str) -> ApiError | None:
    """Return the error of a problem on an event stream; None for one that passes."""
    status = _STATUS_OF_CODE.get(code)
    return None if status is None else error_of(status, {"title": code, "detail": message})


def read_retry_after(text: str | None) -> float | None:
    """Read `Retry-After` (RFC 9110 section 10.2.3), seconds or a date; None for anything else."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
