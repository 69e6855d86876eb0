"""A mail server for tests: it receives, and answers as it is told to."""

import asyncio
import contextlib
import email.policy
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import attrs
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

PARSER = BytesParser(policy=email.policy.default)


@attrs.frozen
class Received:
    """A mail as it came. `encrypted`: whether by TLS; `user`: who signed in."""

    sender: str
    recipients: list[str]
    raw: bytes
    encrypted: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        """The mail, read by Python's own parser."""
        parsed: Any = PARSER.parsebytes(self.raw)
        assert parsed.defects == []
        return parsed

    def text(self, kind: str = "plain") -> str:
        """Return the body of one kind."""
        body = self.message.get_body([kind])
        assert body is not None
        text: str = body.get_content()
        return text.replace("\r\n", "\n")


@attrs.define
class MailBox:
    """The mails that came; `recipient_answers` and `answers` take turns in place of a yes."""

    received: list[Received] = attrs.field(factory=list)
    recipient_answers: list[str] = attrs.field(factory=list)
    answers: list[str] = attrs.field(factory=list)

    async def handle_RCPT(
        self, _: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        if self.recipient_answers:
            return self.recipient_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail, or not."""
        if self.answers:
            return self.answers.pop(0)
        user: Any = session.auth_data
        self.received.append(
            Received(
                str(envelope.mail_from),
                envelope.rcpt_tos,
                bytes(envelope.original_content or b""),
                session.ssl is not None,
                user,
            )
        )
        return "250 OK"


@contextlib.asynccontextmanager
async def mail_server(
    box: MailBox, *, tls: ssl.SSLContext | None = None, password: str = ""
) -> AsyncIterator[int]:
    """Run a server until the block ends; yield its port. A password is that of `ann`."""

    def authenticate(_: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> Any:
        good = (data.login, data.password) == (b"ann", password.encode())
        return AuthResult(success=good, auth_data="ann", handled=False)

    def make() -> SMTP:
        return SMTP(
            box,
            hostname="mail.example",
            tls_context=tls,
            require_starttls=tls is not None,
            auth_required=bool(password),
            authenticator=authenticate if password else None,
        )

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
