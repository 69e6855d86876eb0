"""Identities and the tokens that name them (RFC 7519)."""

import contextlib
import hashlib
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import attrs
import jwt

from settings import Settings
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.keys import HMAC, Key, TokenReader, UnknownKey, open_keys
from tornado_rt.work import clean_text
from tornado_rt.work.texts import phrase

# One for all: an empty frozenset is an object of 200 bytes.
NO_SCOPES: frozenset[str] = frozenset()
# RFC 7519 leaves it open; OpenID Connect Core section 2 has 255 for `sub`.
USER_ID_LENGTH = 255
# More than headers may have.
MOST_TOKEN_BYTES = 65536
# Most good tokens that are remembered.
REMEMBERED = 10_000
REASON_LENGTH = 200
# Patterns of topics that one token may have, and characters of each.
MOST_PATTERNS = 100
PATTERN_LENGTH = 128
# The end of the year 9999, the last that ISO 8601 and `datetime` can write.
LATEST = 253402300799

ADMIN = "rt:admin"
PUBLISH = "rt:publish"
WORK = "rt:work"

# Raised by PyJWT and the parsers below it for a token that was made to break them.
BAD_TOKEN = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError)


class AuthError(Exception):
    """The credentials are missing, wrong or expired; the message may be shown."""


class NoCredentials(AuthError):
    """There are none."""


@attrs.frozen
class Identity:
    """A user, what they may do, and until when (seconds since the epoch).

    `email`: the address that the token's issuer has verified, "" for none. `topics`: patterns of
    the application's topics that they may follow. `kinds`: patterns of the kinds of tasks that they
    may work on, None: all.
    """

    user_id: str
    scopes: frozenset[str] = NO_SCOPES
    expires_at: float = LATEST
    email: str = ""
    topics: tuple[str, ...] = ()
    kinds: tuple[str, ...] | None = None

    def may(self, scope: str) -> bool:
        """Say whether the scope was granted; an admin may do everything."""
        return scope in self.scopes or ADMIN in self.scopes


def check_identity(identity: Any) -> Identity:
    """Return who an application's own sign-in says it is.

    Raise AuthError when the sign-in has expired, TypeError and OutOfBounds for no valid identity.
    """
    if not isinstance(identity, Identity) or isinstance(identity.scopes, str):
        raise TypeError("a sign-in must give an Identity, with a set of scopes, or None")
    check_name("user_id", identity.user_id, USER_ID_LENGTH)
    if identity.expires_at <= time.time():
        raise AuthError(phrase("the sign-in has expired"))
    expires_at = float(min(identity.expires_at, LATEST))
    return attrs.evolve(
        identity, scopes=frozenset(identity.scopes) or NO_SCOPES, expires_at=expires_at
    )


@attrs.frozen
class _Checked:
    """A token that was good, with this key and until then (seconds since the epoch)."""

    key: Key
    until: float
    identity: Identity


class TokenVerifier:
    """Checks tokens against the configured keys, an algorithm allow-list, issuer and audience.

    One that was good stays good with the same key until it expires: its signature is checked once.
    Raise SecretError when the settings name keys that cannot be used.
    """

    def __init__(self, settings: Settings, secret: str) -> None:
        self._settings = settings
        self._keys = open_keys(settings, secret)
        self._reader = TokenReader()
        # By the digest of the token: nobody reads tokens in our memory.
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()
        self.faults = self._keys.faults
        self.close = self._keys.close

    async def verify(self, token: str) -> Identity:
        """Return whom the token names.

        Raise AuthError when it is not valid now, KeysUnavailable when that cannot be said.
        """
        if len(token) > MOST_TOKEN_BYTES:
            raise AuthError(
                phrase(
                    "the token is longer than {most} bytes",
                    most=MOST_TOKEN_BYTES,
                )
            )
        try:
            keys = await self._keys.find(token)
            digest = hashlib.sha256(token.encode()).digest()
            known = self._checked.get(digest)
            is_known = known is not None and any(known.key is key for key in keys)
            if known is not None and is_known and time.time() < known.until:
                return known.identity
            key, claims = self._decode_by(token, keys)
        except jwt.ExpiredSignatureError:
            raise AuthError(phrase("the token has expired")) from None
        except (UnknownKey, *BAD_TOKEN) as error:
            # The reason may quote the token.
            reason = clean_text(error, REASON_LENGTH)
            raise AuthError(phrase("the token is not valid: {error}", error=reason)) from None
        identity = self._identity(claims)
        # PyJWT compares whole seconds.
        until = min(int(claims["exp"]), LATEST) + self._settings.auth.jwt_leeway_seconds
        self._checked[digest] = _Checked(key, until, identity)
        if len(self._checked) > REMEMBERED:
            self._checked.popitem(last=False)
        return identity

    def _decode_by(self, token: str, keys: Sequence[Key]) -> tuple[Key, dict[str, Any]]:
        """Return the key that fits, and the claims. Raise as PyJWT does."""
        *others, last = keys
        for key in others:
            with contextlib.suppress(jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                return key, self._decode(token, key)
        return last, self._decode(token, last)

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        settings = self._settings
        return self._reader.decode(
            token,
            key.value,
            algorithms=list(key.algorithms),
            issuer=settings.auth.jwt_issuer or None,
            audience=settings.auth.jwt_audience or None,
            leeway=settings.auth.jwt_leeway_seconds,
            # The user may be a number, or in another claim.
            options={
                "require": ["exp"],
                "verify_aud": bool(settings.auth.jwt_audience),
                "verify_sub": False,
            },
        )

    def _identity(self, claims: dict[str, Any]) -> Identity:
        expires_at = claims["exp"]
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
            raise AuthError(phrase("the token is not valid: exp must be a number"))
        settings = self._settings
        until = min(expires_at, LATEST) + settings.auth.jwt_leeway_seconds
        return Identity(
            _user_id(settings.auth.jwt_user_claim, claims),
            _scopes(_claim(claims, settings.auth.jwt_scope_claim)),
            float(min(until, LATEST)),
            _email(claims),
            _patterns(_claim(claims, settings.auth.jwt_topics_claim)),
            _kinds(_claim(claims, settings.auth.jwt_kinds_claim)),
        )


def _claim(claims: dict[str, Any], name: str) -> Any:
    """Return a claim, None without it; `a.b` is also the member `b` of the claim `a`."""
    if name in claims or "." not in name:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _user_id(name: str, claims: dict[str, Any]) -> str:
    """Return whom a token names. Raise AuthError."""
    value = _claim(claims, name)
    if value is None:
        raise AuthError(
            phrase('the token is not valid: Token is missing the "{name}" claim', name=name)
        )
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise AuthError(
            phrase("the token is not valid: {name} must be text or a number", name=name)
        )
    try:
        check_name(name, value, USER_ID_LENGTH)
    except OutOfBounds as error:
        raise AuthError(phrase("the token is not valid: {error}", error=error)) from None
    return value


def _email(claims: dict[str, Any]) -> str:
    """Return the verified address (OpenID Connect Core section 5.1)."""
    email = claims.get("email")
    return email if claims.get("email_verified") is True and isinstance(email, str) else ""


def _scopes(scope: Any) -> frozenset[str]:
    """Read the scopes (RFC 8693 section 4.2), also when they are a list; else there are none."""
    listed = scope.split() if isinstance(scope, str) else scope
    listed = listed if isinstance(listed, list) else []
    return frozenset(one for one in listed if _is_scope(one)) or NO_SCOPES


def _kinds(kinds: Any) -> tuple[str, ...] | None:
    """Read the patterns of kinds, None without the claim: one that cannot be read allows none."""
    return None if kinds is None else _patterns(kinds)


def _patterns(patterns: Any) -> tuple[str, ...]:
    """Read patterns, a list or a text with spaces between; else there are none."""
    listed = patterns.split() if isinstance(patterns, str) else patterns
    listed = listed if isinstance(listed, list) else []
    known = (one for one in listed if isinstance(one, str) and 0 < len(one) <= PATTERN_LENGTH)
    return tuple(itertools.islice(known, MOST_PATTERNS))


def _is_scope(text: Any) -> bool:
    # RFC 6749 section 3.3.
    return isinstance(text, str) and bool(text) and all("!" <= one <= "~" for one in text)


def challenge(error: BaseException | None) -> str:
    """Return what `WWW-Authenticate` says of the error (RFC 6750 section 3)."""
    realm = 'Bearer realm="tornado_rt"'
    if error is None or isinstance(error, NoCredentials):
        return realm
    text = "".join(one if _may_be_quoted(one) else " " for one in str(error))
    return f'{realm}, error="invalid_token", error_description="{text}"'


def _may_be_quoted(character: str) -> bool:
    return " " <= character <= "~" and character not in '"\\'


def make_token(
    settings: Settings,
    secret: str,
    user_id: str,
    scopes: list[str],
    ttl: float,
    topics: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> tuple[str, float]:
    """Sign a token that is valid for `ttl` seconds; return it and its expiry time.

    Raise OutOfBounds for a user id that no token may have.
    """
    check_name("user", user_id, USER_ID_LENGTH)
    expires_at = math.floor(min(time.time() + min(ttl, LATEST), LATEST))
    claims: dict[str, Any] = {
        settings.auth.jwt_user_claim: user_id,
        "exp": expires_at,
        settings.auth.jwt_scope_claim: " ".join(scopes),
    }
    claims |= {"iss": settings.auth.jwt_issuer} if settings.auth.jwt_issuer else {}
    claims |= {settings.auth.jwt_topics_claim: list(topics)} if topics else {}
    claims |= {settings.auth.jwt_kinds_claim: list(kinds)} if kinds else {}
    claims |= {"aud": settings.auth.jwt_audience} if settings.auth.jwt_audience else {}
    allowed = next((name for name in settings.auth.jwt_algorithms if name in HMAC), HMAC[0])
    return jwt.encode(claims, secret, algorithm=allowed), expires_at
