"""A request of the API, and how often it may be sent, without any I/O."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import attrs

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.errors import (
    ApiError,
    ConnectionLost,
    ProtocolError,
    RealtimeError,
    error_of_answer,
)

logger = logging.getLogger("tornado_rt_client")

T = TypeVar("T")

# Methods that do the same when they are repeated (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
TOO_MANY = 429


@attrs.frozen
class Request(Generic[T]):
    """One request; `read` makes the value of its JSON answer.

    `key` is its `Idempotency-Key`: the server does such a request once, however often it comes.
    `is_harmless` says of a POST without one that a repetition changes nothing.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    params: Mapping[str, Any] = attrs.Factory(dict)
    body: Any = None
    key: str | None = None
    is_harmless: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows if it was done."""
        return self.method in IDEMPOTENT or self.key is not None or self.is_harmless

    def headers(self) -> dict[str, str]:
        """Return its headers, but for the token."""
        headers = {"Accept": "application/json"}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.key is not None:
            headers["Idempotency-Key"] = self.key
        return headers

    def content(self) -> bytes | None:
        """Return its body. Raise TypeError, ValueError for what JSON cannot say."""
        if self.body is None:
            return None
        return json.dumps(self.body, default=_plain, allow_nan=False).encode()

    def answer(self, status: int, headers: Mapping[str, str], content: bytes) -> T:
        """Return the value of an answer. Raise ApiError, ProtocolError."""
        if status >= 400:
            raise error_of_answer(status, headers, content)
        if not 200 <= status < 300:
            raise ProtocolError(f"{self.method} {self.path} was answered by {status}")
        try:
            data = json.loads(content) if content else None
        except ValueError:
            raise ProtocolError(f"{self.method} {self.path} was not answered by JSON") from None
        return self.read(data)


@attrs.define
class Attempts:
    """The attempts of one request, and how long they may go on: `patience` [s] since `began`."""

    request: Request[Any]
    began: float
    backoff: Backoff = attrs.Factory(Backoff)
    patience: float = 30.0
    _failures: int = attrs.field(default=0, init=False)

    def pause(self, error: RealtimeError, now: float) -> float:
        """Return how long to wait before the next attempt [s]. Raise `error` for the last one."""
        self._failures += 1
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        wait = self.backoff.seconds(self._failures, retry_after=retry_after)
        if not self._may_repeat(error) or now + wait > self.began + self.patience:
            raise error
        logger.info(
            "%s %s: %s; again in %.1f s", self.request.method, self.request.path, error, wait
        )
        return wait

    def _may_repeat(self, error: RealtimeError) -> bool:
        if isinstance(error, ConnectionLost):
            return self.request.is_repeatable or not error.was_sent
        if isinstance(error, ApiError) and error.is_passing:
            # A limit is checked before anything is done; a fault may come amid the work.
            return self.request.is_repeatable or error.status == TOO_MANY
        return False


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of a class."""
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone")
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"JSON has nothing for {type(value).__name__}")
