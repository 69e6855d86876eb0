"""The keys that tokens are checked with (RFC 7517), and the algorithms that fit each (RFC 7518).

One secret and the one before it, public keys from a file, or those that an identity provider
publishes. The provider's
are fetched when one is needed, once for all who wait, and stay in use while it is down.

It is long because keys of files, of key sets and of secrets pass the same checks.
"""

import asyncio
import base64
import binascii
import hmac
import json
import re
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.warnings import InsecureKeyLengthWarning
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from settings import AUTOMATIC, Settings
from tornado_rt.secret import SecretError, check_secret, read_named_file
from tornado_rt.work.texts import phrase

log = structlog.get_logger(__name__)

# Bytes of a secret, by algorithm (RFC 7518 section 3.2). PyJWT would warn of less each time.
HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
HMAC = tuple(HMAC_BYTES)
warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
EDWARDS = ("EdDSA",)
ASYMMETRIC = (*RSA, *CURVES.values(), *EDWARDS)
# RFC 7518 section 3.3.
LEAST_RSA_BITS = 2048

FETCH_SECONDS = 4.0
# The provider is asked again after this time for keys that are there.
REFRESH_SECONDS = 300.0
# It is asked at most once in this time for a key that is not among them.
ASK_AGAIN_SECONDS = 10.0
# It is asked again after this time while there are none.
RETRY_SECONDS = 1.0
MOST_BYTES = 512 * 1024
MOST_KEYS = 100
PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
# Between the two alphabets of RFC 4648, sections 4 and 5.
PLAIN = bytes.maketrans(b"-_", b"+/")
URLSAFE = bytes.maketrans(b"+/", b"-_")
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


class KeysUnavailable(Exception):
    """The identity provider does not give its keys, so that no token can be checked."""


class UnknownKey(Exception):
    """The token names an unknown key, or an algorithm that does not fit it."""


@attrs.frozen
class Key:
    """A key with the algorithms that it may check; `kid` is its name, if it has one."""

    value: Any
    algorithms: frozenset[str]
    kid: str | None = None


class Keys(Protocol):
    """Where keys come from."""

    async def find(self, token: str) -> Sequence[Key]:
        """Return the keys that may be the token's, at least one.

        Raise UnknownKey, KeysUnavailable, or as PyJWT does.
        """
        ...

    def faults(self) -> list[str]:
        """Return why no token can be checked now; nothing while it can."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


def open_keys(settings: Settings, secret: str) -> Keys:
    """Return the keys that the settings name.

    Raise SecretError when one cannot be used, or cannot be used with the algorithms.
    """
    if settings.auth.jwt_jwks_url:
        allowed = _choose(settings, ASYMMETRIC, "the keys of jwt_jwks_url")
        return ProviderKeys(settings.auth.jwt_jwks_url, allowed)
    if settings.auth.jwt_public_key:
        keys = _public_keys(settings.auth.jwt_public_key)
        fitting = list(dict.fromkeys(name for key in keys for name in _fitting(key)))
        what = "the key in jwt_public_key" if len(keys) == 1 else "the keys in jwt_public_key"
        chosen = _choose(settings, fitting, what)
        each = [Key(key, chosen.intersection(_fitting(key))) for key in keys]
        return FixedKeys([key for key in each if key.algorithms])
    chosen = _choose(settings, HMAC, "a secret", automatic=HMAC[:1])
    secrets = [secret]
    if settings.auth.jwt_previous_secret:
        check_secret(settings.auth.jwt_previous_secret, "jwt_previous_secret")
        secrets.append(settings.auth.jwt_previous_secret)
    for name in sorted(chosen):
        if min(map(len, secrets)) < HMAC_BYTES[name]:
            log.warning("secret_is_short", algorithm=name, recommended_bytes=HMAC_BYTES[name])
    return FixedKeys([Key(_secret_key(one, chosen), chosen) for one in secrets])


class FixedKeys:
    """The same keys for every token: one, or several while one is being replaced."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    async def find(self, token: str) -> Sequence[Key]:
        return self._keys

    def faults(self) -> list[str]:
        return []

    async def close(self) -> None:
        pass


class ProviderKeys:
    """The keys of an identity provider.

    `url` is where it publishes them (RFC 7517 section 5), `allowed` has the algorithms that the
    settings let through.
    """

    def __init__(self, url: str, allowed: frozenset[str]) -> None:
        self._url = url
        self._allowed = allowed
        self._keys: list[Key] = []
        self._fetched_at = self._tried_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, token: str) -> Sequence[Key]:
        header = jwt.get_unverified_header(token)
        kid, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in list(self._allowed):
            raise UnknownKey("The specified alg value is not allowed")
        if not self._keys:
            await self._refresh(RETRY_SECONDS)
        elif time.monotonic() - self._fetched_at > REFRESH_SECONDS:
            # Nobody waits for it: those that are there are good until others come.
            self._begin(ASK_AGAIN_SECONDS)
        if not self._named(kid):
            await self._refresh(ASK_AGAIN_SECONDS)
        fitting = [key for key in self._named(kid) if algorithm in key.algorithms]
        if not fitting or (kid is None and len(fitting) > 1):
            raise UnknownKey("it names no key that is known and fits its algorithm")
        return fitting[:1]

    def faults(self) -> list[str]:
        if self._keys:
            return []
        self._begin(RETRY_SECONDS)
        return ["the token keys cannot be had"]

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _named(self, kid: str | None) -> list[Key]:
        return [key for key in self._keys if kid is None or key.kid == kid]

    def _begin(self, pause: float) -> None:
        """Ask the provider, unless that is under way or was begun within `pause` seconds."""
        is_over = self._fetching is None or self._fetching.done()
        if is_over and time.monotonic() - self._tried_at >= pause:
            self._tried_at = time.monotonic()
            self._fetching = asyncio.create_task(self._fetch(), name="fetch-keys")

    async def _refresh(self, pause: float) -> None:
        """Get keys that are at most `pause` seconds old. Raise KeysUnavailable."""
        self._begin(pause)
        if self._fetching is not None and not self._fetching.done():
            # One that is cancelled ends nobody else's waiting.
            await asyncio.wait([self._fetching])
        if self._fetched_at < self._tried_at:
            raise KeysUnavailable(phrase("the token keys cannot be had; try again"))

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                body = await self._download()
                self._keys = await asyncio.to_thread(read_keys, body, self._allowed)
            self._fetched_at = time.monotonic()
        except Exception as error:
            log.warning("keys_unavailable", provider=urlsplit(self._url).hostname, error=error)

    async def _download(self) -> bytes:
        # A client of its own: the shared one has a line in which others may wait.
        client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MOST_BYTES)
        try:
            answer = await client.fetch(
                self._url,
                connect_timeout=FETCH_SECONDS,
                request_timeout=FETCH_SECONDS,
                follow_redirects=False,
                decompress_response=False,
                headers={"Accept": "application/jwk-set+json, application/json"},
            )
        finally:
            client.close()
        return answer.body


def read_keys(body: bytes, allowed: Iterable[str]) -> list[Key]:
    """Read a JWK set without the keys that we cannot use. Raise ValueError when none is left."""
    try:
        listed = json.loads(body)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("the answer is not a JWK set") from None
    listed = listed[:MOST_KEYS] if isinstance(listed, list) else []
    keys = [key for key in (_read_key(one, set(allowed)) for one in listed) if key is not None]
    if not keys:
        raise ValueError("the JWK set holds no key that the settings allow")
    return keys


def _read_key(listed: Any, allowed: set[str]) -> Key | None:
    if not isinstance(listed, dict) or not _is_for_signatures(listed):
        return None
    public = {name: value for name, value in listed.items() if name not in PRIVATE_MEMBERS}
    try:
        key = jwt.PyJWK(public).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    named, kid = listed.get("alg"), listed.get("kid")
    fitting = allowed.intersection(_fitting(key), [named] if isinstance(named, str) else ASYMMETRIC)
    if not fitting or not isinstance(kid, str | None):
        return None
    return Key(key, frozenset(fitting), kid)


def _is_for_signatures(listed: dict[str, Any]) -> bool:
    # RFC 7517 sections 4.2 and 4.3.
    operations = listed.get("key_ops", ["verify"])
    return listed.get("use", "sig") == "sig" and (
        isinstance(operations, list) and "verify" in operations
    )


def _secret_key(secret: str, algorithms: frozenset[str]) -> Any:
    """Return a secret as PyJWT checks signatures with it; for one algorithm it is prepared once."""
    if len(algorithms) > 1:
        return secret
    encoded = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    key = jwt.PyJWK({"kty": "oct", "alg": next(iter(algorithms)), "k": encoded})
    assert isinstance(key.Algorithm, HMACAlgorithm)
    key.Algorithm = _OneSecret(key.Algorithm.hash_alg)
    return key


class TokenReader(jwt.PyJWT):
    """PyJWT, which takes a third less time for a token that is well-formed."""

    def __init__(self) -> None:
        super().__init__()
        self._jws = _Segments()


class _Segments(jwt.PyJWS):
    """Reads a segment in base64url by writing it again; one that differs is PyJWT's to judge.

    PyJWT looks at each character, and writes it again as well.
    """

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        try:
            padded = segment.translate(PLAIN) + b"=" * (-len(segment) % 4)
            decoded = binascii.a2b_base64(padded)
            written = binascii.b2a_base64(decoded, newline=False).rstrip(b"=")
            if written.translate(URLSAFE) == segment:
                return decoded
        except binascii.Error:
            pass
        return jwt.PyJWS._decode_base64url_segment(segment, name)


class _OneSecret(HMACAlgorithm):
    """Checks signatures with one secret.

    PyJWT looks whether a secret is another kind of key, for each token again: that takes half of
    the time of a check.
    """

    _prepared: bytes | None = None

    def prepare_key(self, key: str | bytes) -> bytes:
        if self._prepared is None:
            self._prepared = super().prepare_key(key)
        return self._prepared

    def sign(self, msg: bytes, key: bytes) -> bytes:
        return hmac.digest(key, msg, self.hash_alg)


def _public_keys(path: str) -> list[Any]:
    content = read_named_file("jwt_public_key", path)
    if b"PRIVATE KEY-----" in content:
        raise SecretError(f"jwt_public_key: {path}: is a private key: name the public one")
    # A file that has none is read as a whole, to say what is wrong with it.
    return [_public_key(path, one) for one in PEM.findall(content)[:MOST_KEYS] or [content]]


def _public_key(path: str, content: bytes) -> Any:
    is_ssh = content.startswith((b"ssh-", b"ecdsa-"))
    try:
        key = (load_ssh_public_key if is_ssh else load_pem_public_key)(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SecretError(f"jwt_public_key: {path}: is not a public key in PEM form") from None
    if not _fitting(key):
        raise SecretError(
            f"jwt_public_key: {path}: must be RSA of {LEAST_RSA_BITS} bits or more, "
            "an elliptic curve of RFC 7518, Ed25519 or Ed448"
        )
    return key


def _fitting(key: Any) -> Sequence[str]:
    """Return the algorithms that a public key may check."""
    if isinstance(key, rsa.RSAPublicKey):
        return RSA if key.key_size >= LEAST_RSA_BITS else ()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return [CURVES[key.curve.name]] if key.curve.name in CURVES else ()
    return EDWARDS if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) else ()


def _choose(
    settings: Settings, fitting: Sequence[str], what: str, automatic: Sequence[str] = ()
) -> frozenset[str]:
    chosen = settings.auth.jwt_algorithms
    if chosen == [AUTOMATIC]:
        return frozenset(automatic or fitting)
    strange = [name for name in chosen if name not in fitting]
    if strange:
        raise SecretError(f"jwt_algorithms: {strange[0]} does not fit {what}: {', '.join(fitting)}")
    return frozenset(chosen)
