"""Base64 for addresses (RFC 4648 section 5), without padding."""

import base64
import binascii


def encode(value: bytes) -> str:
    """Return bytes as text."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes, of text with or without padding. Raise ValueError."""
    bare = text.rstrip("=")
    try:
        plain = bare.encode("ascii").translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(plain + b"=" * (-len(bare) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("that is no base64url") from None
