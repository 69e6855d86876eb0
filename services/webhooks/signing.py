"""Signatures by the Standard Webhooks scheme, version 1.0.0 (https://www.standardwebhooks.com).

Signed is `id.timestamp.body` by HMAC-SHA256, under a secret of 24 to 64 bytes that is written as
base64 behind `whsec_`. The signature is base64 behind `v1,`. The timestamp is that of the attempt,
in seconds since the epoch; a receiver refuses one that is old.
"""

import base64
import hashlib
import hmac
import secrets

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a secret of a webhook."""
    return _written(secrets.token_bytes(SECRET_BYTES))


def derived_secret(seed: str, purpose: str) -> str:
    """Return the secret that a purpose has under a seed, which it does not tell."""
    return _written(hmac.digest(seed.encode(), purpose.encode(), hashlib.sha256))


def signed_headers(secret: str, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def _written(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()
