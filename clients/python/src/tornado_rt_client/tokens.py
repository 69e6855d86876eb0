"""Tokens: given, asked for, or minted here with the server's secret."""

import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
import jwt

ALGORITHM = "HS256"
# The server takes no shorter one.
LEAST_SECRET_BYTES = 32
# The share of a token's life that is left when the next one is minted.
RENEWED_AT = 0.25

Token = str | Callable[[], str]
AsyncToken = str | Callable[[], str | Awaitable[str]]
T = TypeVar("T")


@attrs.define
class Mint:
    """Mints short-lived tokens of one user, and renews them before they expire.

    `scopes` are such as `rt:publish`, `topics` patterns of topics that may be followed. `ttl` is
    the life of a token [s]. `claims` are added to each token, such as `iss` and `aud`. Threads may
    share one.
    """

    secret: str = attrs.field(repr=False)
    user: str
    scopes: Sequence[str] = ()
    topics: Sequence[str] = ()
    ttl: float = 300.0
    claims: dict[str, Any] = attrs.Factory(dict)
    clock: Callable[[], float] = time.time
    _token: str = attrs.field(default="", init=False, repr=False)
    _renew_at: float = attrs.field(default=0.0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self.secret.encode()) < LEAST_SECRET_BYTES:
            raise ValueError(f"the secret must have {LEAST_SECRET_BYTES} bytes or more")
        if self.ttl < 1:
            raise ValueError("the ttl must be a second or more")

    def __call__(self) -> str:
        """Return a token that is good for a while."""
        with self._lock:
            now = self.clock()
            if now >= self._renew_at:
                self._token = self._mint(now)
                self._renew_at = now + self.ttl * (1 - RENEWED_AT)
            return self._token

    def _mint(self, now: float) -> str:
        # There is no `iat`: a server whose clock is behind ours would refuse the token.
        claims: dict[str, Any] = {"sub": self.user, "exp": int(now + self.ttl)}
        if self.scopes:
            claims["scope"] = " ".join(self.scopes)
        if self.topics:
            claims["topics"] = list(self.topics)
        return jwt.encode({**self.claims, **claims}, self.secret, algorithm=ALGORITHM)


def source_of(
    token: T | None,
    secret: str | None,
    user: str | None,
    scopes: Sequence[str],
    topics: Sequence[str],
    ttl: float,
) -> T | Mint:
    """Return the token that was given, or what mints tokens with the secret."""
    if (token is None) == (secret is None):
        raise ValueError("give either a token, or a secret and a user")
    if token is not None:
        if user is not None or scopes or topics:
            raise ValueError("user, scopes and topics are those of the token")
        return token
    if secret is None or not user:
        raise ValueError("a secret needs a user to mint tokens for")
    return Mint(secret, user, scopes, topics, ttl)


def authorization(token: Token) -> dict[str, str]:
    """Return the header that has the token to send now. Raise ValueError for what is none."""
    return _header(token if isinstance(token, str) else token())


async def authorization_async(token: AsyncToken) -> dict[str, str]:
    """Do as `authorization` does; the function that knows the token may be asynchronous."""
    return _header(await token_of(token))


def expiry_of(token: str) -> float | None:
    """Return when a token expires [s since the epoch]; None when it does not say."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    expiry = claims.get("exp")
    return float(expiry) if isinstance(expiry, int | float) else None


async def token_of(source: AsyncToken) -> str:
    """Return the token to send now."""
    found = source if isinstance(source, str) else source()
    return await found if inspect.isawaitable(found) else found


def _header(token: str) -> dict[str, str]:
    # A line end, as a token from a file may have, would look like a lost connection.
    if not token or not all("!" <= one <= "~" for one in token):
        raise ValueError("the token is empty, or has spaces or line ends")
    return {"Authorization": f"Bearer {token}"}
