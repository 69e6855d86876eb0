"""`/api/email` and `/api/users/{user}/email`: where a user gets mail, and whether."""

from html import escape
from typing import Any

import attrs
from tornado.routing import URLSpec

from handlers.page import POLICY
from services.email import (
    UNSUBSCRIBE,
    Addresses,
    MailLinks,
    MailWords,
    WordsOf,
    check_address,
    is_address,
)
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN, USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.problems import Problem

TOKEN_LENGTH = 2000
USER = "([^/]+)"
PAGE = """<!doctype html>
<html lang="{language}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}</title>
  <link rel="stylesheet" href="{style}">
</head>
<body><main><section><h1>{title}</h1>{body}</section></main></body>
</html>
"""


class EmailApiHandler(ApiHandler):
    """An endpoint on the addresses."""

    def initialize(self, addresses: Addresses, links: MailLinks, words_of: WordsOf) -> None:
        self.addresses = addresses
        self.links = links
        self.words_of = words_of


def _check_address(_: Any, field: Any, value: str | None) -> None:
    if value is not None:
        check_address(field.name, value)


@attrs.frozen
class AddressRequest:
    """The body that sets an address, null for none."""

    email: str | None = attrs.field(validator=_check_address)


@attrs.frozen
class MailRequest:
    """The body that turns mail on or off."""

    on: bool


class UserEmailHandler(EmailApiHandler):
    """`PUT`: set the address of a user, for an application."""

    async def put(self, user_id: str) -> None:
        self.require(ADMIN)
        try:
            check_name("user", user_id, USER_ID_LENGTH)
        except OutOfBounds as error:
            raise Problem(400, str(error)) from None
        choice = await self.addresses.assign(user_id, self.body(AddressRequest).email or "")
        self.answer(choice.to_dict())


class EmailHandler(EmailApiHandler):
    """`GET`: where I get mail, and whether. `PUT`: turn it on or off.

    It goes to the address that the token's issuer has verified, else to the application's.
    """

    async def get(self) -> None:
        self.answer((await self.addresses.read(self.identity.user_id)).to_dict())

    async def put(self) -> None:
        identity, asked = self.identity, self.body(MailRequest)
        if asked.on:
            verified = identity.email if is_address(identity.email) else ""
            choice = await self.addresses.turn_on(identity.user_id, verified)
        else:
            choice = await self.addresses.turn_off(identity.user_id)
        self.answer(choice.to_dict())


class UnsubscribeHandler(EmailApiHandler):
    """`POST`: turn mail off, by a link in a mail (RFC 8058). `GET`: a page that asks to.

    A program that looks at the links of a mail turns nothing off. The page is in the language of
    who got the mail.
    """

    identifies = False
    takes_body = False

    async def get(self) -> None:
        words = await self.words_of(self._user())
        address = f"{self.at(UNSUBSCRIBE)}?token={escape(self._token())}"
        button = f"<button>{escape(words.say('stop.button'))}</button>"
        form = f'<form method="post" action="{address}">{button}</form>'
        self._show(words, "stop.ask", form)

    async def post(self) -> None:
        user_id = self._user()
        await self.addresses.turn_off(user_id)
        self._show(await self.words_of(user_id), "stop.done", "")

    def _token(self) -> str:
        return self.text("token", TOKEN_LENGTH) or ""

    def _user(self) -> str:
        return self.links.user_of(self._token())

    def _show(self, words: MailWords, title: str, body: str) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        said, style = escape(words.say(title)), self.at("/static/style.css")
        self.finish(PAGE.format(language=words.language, title=said, style=style, body=body))


def email_routes(email: dict[str, Any]) -> list[URLSpec]:
    """Return the routes; the argument is what `initialize` of the handlers gets."""
    return [
        URLSpec(r"/api/email", EmailHandler, email),
        URLSpec(rf"/api/users/{USER}/email", UserEmailHandler, email),
        URLSpec(UNSUBSCRIBE, UnsubscribeHandler, email),
    ]
