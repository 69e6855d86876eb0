"""The mail server that mail is handed to (RFC 5321), by the address that names it."""

import socket
import ssl
from email.message import EmailMessage
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib
import attrs

from tornado_rt.work.texts import stored_phrase

TIMEOUT_SECONDS = 30.0
PORTS = {"smtp": 587, "smtps": 465}
# Whether the connection is encrypted before anything is said of users; None: when it can be.
STARTTLS: dict[str, bool | None] = {"auto": None, "require": True, "off": False}


class MailLater(Exception):
    """The server cannot take it now; the message says why. It may have taken it all the same."""


class MailRefused(Exception):
    """The server has refused it for good; the message says why."""


@attrs.frozen
class MailServer:
    """Where mail goes. `implicit_tls`: TLS from the first byte; else `starttls` says."""

    host: str
    port: int
    username: str
    password: str = attrs.field(repr=False)
    implicit_tls: bool = False
    starttls: bool | None = None
    trust: ssl.SSLContext = attrs.field(factory=ssl.create_default_context, repr=False, eq=False)

    @classmethod
    def parse(cls, url: str) -> "MailServer":
        """Read `smtp://user:password@host:587?starttls=require`, or `smtps://`.

        With a password and without `starttls` it is required. Raise ValueError.
        """
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError("a mail server is an smtp: or smtps: address")
        password = unquote(parts.password or "")
        asked = dict(parse_qsl(parts.query)).get("starttls", "require" if password else "auto")
        implicit = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=parts.port or PORTS[parts.scheme],
            username=unquote(parts.username or ""),
            password=password,
            implicit_tls=implicit,
            starttls=False if implicit else STARTTLS[asked],
        )

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Hand over a message. Raise MailLater or MailRefused."""
        try:
            await aiosmtplib.send(
                message,
                sender=sender,
                recipients=[recipient],
                hostname=self.host,
                port=self.port,
                username=self.username or None,
                password=self.password or None,
                use_tls=self.implicit_tls,
                start_tls=self.starttls,
                tls_context=self.trust,
                # By itself it would look it up, and wait for a name server.
                local_hostname=socket.gethostname(),
                timeout=TIMEOUT_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _fault_of(error.recipients[0]) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _fault_of(error) from None


def _fault_of(error: Exception) -> MailLater | MailRefused:
    # A server that does not know us, or speaks no TLS, is for its operator to mend.
    ours = isinstance(error, aiosmtplib.SMTPAuthenticationError)
    if isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 500 and not ours:
        return MailRefused(
            stored_phrase(
                "the mail server answered {code} {message}", code=error.code, message=error.message
            )
        )
    return MailLater(stored_phrase("the mail server cannot take it: {error}", error=error))
