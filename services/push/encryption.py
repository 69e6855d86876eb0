"""Encryption of a push for one browser (RFC 8291), as one record of `aes128gcm` (RFC 8188)."""

import os
import struct

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# A push service takes at least this much (RFC 8030 section 7.2), and need not take more.
BODY_BYTES = 4096
SALT_BYTES = 16
AUTH_BYTES = 16
POINT_BYTES = 65
# The salt, the record's size, the length of the sender's key, and that key.
HEADER_BYTES = SALT_BYTES + 4 + 1 + POINT_BYTES
# After the text a delimiter and the tag of AES-GCM.
TEXT_BYTES = BODY_BYTES - HEADER_BYTES - 1 - 16
LAST_RECORD = b"\x02"


def encrypt(
    text: bytes,
    receiver: bytes,
    auth: bytes,
    *,
    sender: EllipticCurvePrivateKey | None = None,
    salt: bytes = b"",
) -> bytes:
    """Return the body for the browser with the public key `receiver` and the secret `auth`.

    `sender` and `salt` are made afresh for each message; only a test gives them. Raise ValueError
    for a key that is no point of P-256, or a text over `TEXT_BYTES`.
    """
    if len(text) > TEXT_BYTES:
        raise ValueError(f"a push holds at most {TEXT_BYTES} bytes")
    sender = sender or generate_private_key(SECP256R1())
    salt = salt or os.urandom(SALT_BYTES)
    shared = sender.exchange(ECDH(), read_point(receiver))
    own = point_of(sender.public_key())
    keying = _derive(auth, shared, b"WebPush: info\0" + receiver + own, 32)
    key = _derive(salt, keying, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derive(salt, keying, b"Content-Encoding: nonce\0", 12)
    header = salt + struct.pack("!IB", BODY_BYTES, len(own)) + own
    return header + AESGCM(key).encrypt(nonce, text + LAST_RECORD, None)


def read_point(point: bytes) -> EllipticCurvePublicKey:
    """Read an uncompressed point of P-256. Raise ValueError."""
    if len(point) != POINT_BYTES:
        raise ValueError(f"a public key has {POINT_BYTES} bytes")
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)


def point_of(key: EllipticCurvePublicKey) -> bytes:
    """Return a public key as an uncompressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _derive(salt: bytes, secret: bytes, info: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt, info).derive(secret)
