"""Who is asking: tokens (RFC 7519), and one-time tickets for what cannot send headers."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Any, cast

import attrs
import jwt
import orjson
from redis.asyncio import Redis

from settings import Settings
from tornado_rt.redis import SHARED_HOME

SECRET_FILE = "jwt_secret"
SECRET_BYTES = 32
# One for all: an empty frozenset is an object of 200 bytes.
NO_SCOPES: frozenset[str] = frozenset()
USER_ID_LENGTH = 128
TICKET_PREFIX = SHARED_HOME + "ticket:"

ADMIN = "rt:admin"
PUBLISH = "rt:publish"
WORK = "rt:work"


class AuthError(Exception):
    """The credentials are missing, wrong or expired; the message may be shown."""


class SecretError(Exception):
    """The configured key cannot be used; the message names the setting."""


@attrs.frozen
class Identity:
    """A user, what he may do, and until when (seconds since the epoch)."""

    user_id: str
    scopes: frozenset[str]
    expires_at: float

    def may(self, scope: str) -> bool:
        """Say whether the scope was granted; an admin may do everything."""
        return scope in self.scopes or ADMIN in self.scopes


class TokenVerifier:
    """Checks tokens against one configured key, an algorithm allow-list, issuer and audience."""

    def __init__(self, settings: Settings, secret: str) -> None:
        self._settings = settings
        self._key: str = secret
        if settings.jwt_public_key:
            self._key = Path(settings.jwt_public_key).read_text()
        self._jwks = jwt.PyJWKClient(settings.jwt_jwks_url) if settings.jwt_jwks_url else None

    async def verify(self, token: str) -> Identity:
        """Return whom the token names. Raise AuthError when it is not valid now."""
        try:
            claims = self._decode(token, await self._key_of(token))
        except jwt.ExpiredSignatureError:
            raise AuthError("the token has expired") from None
        except (jwt.PyJWTError, ValueError, UnicodeError) as error:
            raise AuthError(f"the token is not valid: {error}") from None
        return _identity(claims)

    async def _key_of(self, token: str) -> Any:
        if self._jwks is None:
            return self._key
        return (await asyncio.to_thread(self._jwks.get_signing_key_from_jwt, token)).key

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            key,
            algorithms=settings.jwt_algorithms,
            issuer=settings.jwt_issuer or None,
            audience=settings.jwt_audience or None,
            leeway=settings.jwt_leeway_seconds,
            options={"require": ["sub", "exp"], "verify_aud": bool(settings.jwt_audience)},
        )


def _identity(claims: dict[str, Any]) -> Identity:
    user_id = claims["sub"]
    if not isinstance(user_id, str) or not 0 < len(user_id) <= USER_ID_LENGTH:
        raise AuthError(f"the token's sub is not a user id of 1 to {USER_ID_LENGTH} characters")
    if not user_id.isprintable():
        raise AuthError("the token's sub holds control characters")
    scope = claims.get("scope", "")
    granted = frozenset(scope.split()) if isinstance(scope, str) else NO_SCOPES
    return Identity(user_id, granted or NO_SCOPES, float(claims["exp"]))


def load_secret(settings: Settings) -> tuple[str, bool]:
    """Return the HMAC secret, and whether it is one that the server made for itself.

    Raise SecretError for one under 32 bytes.
    """
    if settings.jwt_public_key or settings.jwt_jwks_url:
        return "", False
    if not settings.jwt_secret:
        return _own_secret(settings.data_dir), True
    if len(settings.jwt_secret.encode()) < SECRET_BYTES:
        raise SecretError(f"jwt_secret: must have {SECRET_BYTES} bytes or more")
    return settings.jwt_secret, False


def _own_secret(data_dir: Path) -> str:
    path = data_dir / SECRET_FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()


def make_token(
    settings: Settings, secret: str, user_id: str, scopes: list[str], ttl: float
) -> tuple[str, float]:
    """Sign a token that is valid for `ttl` seconds; return it and its expiry time."""
    expires_at = int(time.time() + ttl)
    claims: dict[str, Any] = {"sub": user_id, "exp": expires_at, "scope": " ".join(scopes)}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    return jwt.encode(claims, secret, algorithm="HS256"), expires_at


class Tickets:
    """One-time stand-ins for a token, for a URL that may end up in a log."""

    def __init__(self, redis: Redis, ttl_seconds: int) -> None:
        self._redis = redis
        self.ttl_seconds = ttl_seconds

    async def issue(self, identity: Identity) -> str:
        """Return a ticket that one request may redeem within the time to live."""
        ticket = secrets.token_urlsafe(32)
        stored = orjson.dumps([identity.user_id, sorted(identity.scopes), identity.expires_at])
        await self._redis.set(_ticket_key(ticket), stored, ex=self.ttl_seconds)
        return ticket

    async def redeem(self, ticket: str) -> Identity:
        """Return whom the ticket stands for, once. Raise AuthError when it is used or unknown."""
        stored = cast("bytes | None", await self._redis.getdel(_ticket_key(ticket)))
        if stored is None:
            raise AuthError("the ticket is unknown, used or expired")
        # A later version may have written more behind these.
        user_id, scopes, expires_at, *_ = orjson.loads(stored)
        return Identity(user_id, frozenset(scopes), expires_at)


def _ticket_key(ticket: str) -> str:
    # Hashed, so that whoever reads the store cannot redeem what waits there.
    return TICKET_PREFIX + hashlib.sha256(ticket.encode()).hexdigest()
