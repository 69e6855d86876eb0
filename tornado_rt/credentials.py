"""Where a request says who sends it: the first place that has a credential counts."""

from collections.abc import Callable

import attrs
from tornado.httputil import HTTPHeaders, parse_cookie

from tornado_rt.auth import AuthError
from tornado_rt.protocol import WS_AUTH_PREFIX
from tornado_rt.work.texts import phrase

# The cookie of `POST /api/auth/session`; it holds the token.
SESSION_COOKIE = "rt_session"


@attrs.frozen
class Credential:
    """A ticket or a token; neither when both are empty.

    `by_cookie`: a browser sent it by itself.
    """

    ticket: str = ""
    token: str = ""
    by_cookie: bool = False


def find_credential(headers: HTTPHeaders, query: Callable[[str], list[str]]) -> Credential:
    """Return what the request shows; `query` returns the arguments of a name.

    A bad credential is refused, even if a later place has a good one. Raise AuthError for one that
    is ambiguous or empty.
    """
    if ticket := _only(query, "ticket"):
        return Credential(ticket=ticket)
    token = _bearer(headers) or _subprotocol(headers) or _only(query, "token")
    if token:
        return Credential(token=token)
    session = parse_cookie(headers.get("Cookie", "")).get(SESSION_COOKIE, "")
    return Credential(token=session, by_cookie=bool(session))


def _only(query: Callable[[str], list[str]], name: str) -> str:
    given = query(name)
    if len(given) > 1:
        raise AuthError(phrase("there is more than one {name}", name=name))
    return given[0] if given else ""


def _bearer(headers: HTTPHeaders) -> str:
    """Return the token of `Authorization`. Another scheme is for a proxy in front of us."""
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer":
        return ""
    if not token.strip():
        raise AuthError(phrase("the Authorization header holds no token"))
    return token.strip()


def _subprotocol(headers: HTTPHeaders) -> str:
    offered = (one.strip() for one in headers.get("Sec-WebSocket-Protocol", "").split(","))
    with_token = [one for one in offered if one.startswith(WS_AUTH_PREFIX)]
    if len(with_token) > 1:
        raise AuthError(phrase("there is more than one token in Sec-WebSocket-Protocol"))
    return with_token[0].removeprefix(WS_AUTH_PREFIX) if with_token else ""
