"""The links in mail: to what a notification names, and the one that turns mail off (RFC 8058)."""

import hashlib
import hmac
from urllib.parse import quote, urljoin

from services.base64url import decode, encode
from tornado_rt.work.texts import phrase

UNSUBSCRIBE = "/api/email/unsubscribe"
PURPOSE = b"unsubscribe\0"
TOKEN_LENGTH = 2000


class BadLink(Exception):
    """The link was not made by this server."""

    def __init__(self) -> None:
        super().__init__(phrase("the link is not valid: it may have been cut off"))


class MailLinks:
    """Makes and reads links. `public_url`: where users reach the server; `secret` signs."""

    def __init__(self, public_url: str, secret: str) -> None:
        self._url = public_url.rstrip("/")
        self._secret = secret.encode()

    def absolute(self, link: str) -> str:
        """Return the address of a notification's link."""
        return urljoin(f"{self._url}/", link)

    def unsubscribe(self, user_id: str) -> str:
        """Return the address that turns a user's mail off. It works as long as the secret does."""
        user = user_id.encode()
        token = f"{encode(user)}.{encode(self._sign(user))}"
        return f"{self._url}{UNSUBSCRIBE}?token={quote(token)}"

    def user_of(self, token: str) -> str:
        """Return whose mail a token turns off. Raise BadLink."""
        name, _, signature = token.partition(".")
        try:
            user, signed = decode(name), decode(signature)
            if len(token) <= TOKEN_LENGTH and hmac.compare_digest(signed, self._sign(user)):
                return user.decode()
        except ValueError:
            pass
        raise BadLink

    def _sign(self, user: bytes) -> bytes:
        return hmac.digest(self._secret, PURPOSE + user, hashlib.sha256)
