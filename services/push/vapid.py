"""VAPID (RFC 8292): the server's key, and the tokens that it signs for push services."""

import time
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from services.base64url import decode, encode
from services.push.encryption import point_of
from settings import Settings
from tornado_rt.data_folder import VAPID_FILE
from tornado_rt.secret import SecretError, own_file, read_named_file

KEY_BYTES = 32
# A signature is good for a day at most (RFC 8292 section 2); clocks differ.
LIFE_SECONDS = 12 * 3600
RENEWED_BEFORE_SECONDS = 3600
# Browsers use the push services of a few makers; anybody may name others.
MOST_KEPT = 100


class VapidKey:
    """Signs pushes. `subject`: how push services reach the operator, "" for no such address."""

    def __init__(self, private: EllipticCurvePrivateKey, subject: str = "") -> None:
        self._private = private
        self._subject = subject
        self._signed: dict[str, tuple[str, float]] = {}
        self.public = encode(point_of(private.public_key()))

    def authorization(self, endpoint: str) -> str:
        """Return the `Authorization` of a push to an endpoint."""
        parts = urlsplit(endpoint)
        return f"vapid t={self._token(f'{parts.scheme}://{parts.netloc}')}, k={self.public}"

    def _token(self, audience: str) -> str:
        token, until = self._signed.get(audience, ("", 0.0))
        if until - time.time() > RENEWED_BEFORE_SECONDS:
            return token
        if len(self._signed) >= MOST_KEPT:
            self._signed.clear()
        token, until = self._sign(audience)
        self._signed[audience] = (token, until)
        return token

    def _sign(self, audience: str) -> tuple[str, float]:
        until = int(time.time()) + LIFE_SECONDS
        claims = {"aud": audience, "exp": until} | ({"sub": self._subject} if self._subject else {})
        return jwt.encode(claims, self._private, algorithm="ES256"), until


def load_vapid_key(settings: Settings) -> VapidKey:
    """Return the key of the settings, or the server's own. Raise SecretError."""
    subject = settings.push.vapid_subject
    if not subject and settings.server.public_url.startswith("https:"):
        subject = settings.server.public_url
    return VapidKey(_load(settings), subject)


def _load(settings: Settings) -> EllipticCurvePrivateKey:
    if settings.push.vapid_private_key:
        return _read_number(settings.push.vapid_private_key)
    if path := settings.push.vapid_private_key_file:
        return _read_pem(read_named_file("vapid_private_key_file", path), path)
    own = settings.server.data_dir / VAPID_FILE
    advice = "delete it: a new one is made, and browsers subscribe again"
    return own_file(own, _make, lambda text: _read_pem(text.encode(), str(own)), advice)


def _make() -> str:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _read_number(text: str) -> EllipticCurvePrivateKey:
    try:
        number = decode(text.strip())
        if len(number) != KEY_BYTES:
            raise ValueError
        return derive_private_key(int.from_bytes(number, "big"), SECP256R1())
    except ValueError:
        raise SecretError(
            f"vapid_private_key: must be {KEY_BYTES} bytes of a P-256 key in base64url"
        ) from None


def _read_pem(content: bytes, path: str) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != SECP256R1.name:
        raise SecretError(f"{path}: is no private key of the curve P-256 in PEM without a password")
    return key
