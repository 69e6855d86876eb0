"""Notes of what admins change: each changing request that needed the scope of an admin."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs
import orjson
from tornado.httputil import HTTPServerRequest

from tornado_rt.work.values import cut

# Most bytes of a body, and of an answer, that are noted.
NOTED_BYTES = 2048
# Members with such names are not noted, however deep they stand.
SECRET = ("secret", "token", "password")
HIDDEN = "(not noted)"
CREDENTIALS = ("token", "ticket")


@attrs.frozen(kw_only=True)
class Act:
    """One action: `data` is the request, `result` the answer, both JSON.

    `via` is "http" or "command"; `address` is None for a command.
    """

    user_id: str
    via: str
    address: str | None
    action: str
    data: Any
    status: int
    result: Any


# Keeps a note; it never raises.
Note = Callable[[Act], Awaitable[None]]


def action_of(request: HTTPServerRequest) -> str:
    """Return the method and the address of a request, without credentials."""
    named = parse_qsl(request.query, keep_blank_values=True)
    query = urlencode([(name, value) for name, value in named if name not in CREDENTIALS])
    action = f"{request.method} {request.path}{'?' if query else ''}{query}"
    return cut(action, NOTED_BYTES)


def noted_body(body: bytes) -> Any:
    """Return a body as it is noted: a text where it is no JSON, or too large; None without one."""
    if not body:
        return None
    try:
        return noted(orjson.loads(body))
    except ValueError:
        return cut(body[:NOTED_BYTES].decode(errors="replace"), NOTED_BYTES)


def noted(value: Any) -> Any:
    """Return JSON without secrets, as a text where it is too large."""
    value = _without_secrets(value)
    text = orjson.dumps(value)
    return value if len(text) <= NOTED_BYTES else cut(text.decode(), NOTED_BYTES)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: HIDDEN if any(one in name.lower() for one in SECRET) else _without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return value
