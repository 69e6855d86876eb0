"""Tickets, sessions of pages, and the demo page's login."""

import time
from typing import Any

import attrs

from settings import Settings
from tornado_rt.api import ApiHandler
from tornado_rt.auth import USER_ID_LENGTH, make_token
from tornado_rt.bounds import name_of
from tornado_rt.credentials import SESSION_COOKIE, find_credential
from tornado_rt.demo import asks_directly
from tornado_rt.problems import Problem
from tornado_rt.tickets import Tickets
from tornado_rt.work.texts import phrase

DEMO_USERS = ["alice", "bob", "carol", "dave"]
DEMO_TTL_SECONDS = 12 * 3600.0
# RFC 6265 section 6.1 promises 4096 with the name and the attributes; browsers keep none longer
# than 400 days.
MOST_COOKIE_BYTES = 3500
MOST_COOKIE_SECONDS = 400 * 86400.0


@attrs.frozen
class DemoLogin:
    """The body of `POST /api/auth/demo`."""

    user_id: str = attrs.field(validator=name_of(USER_ID_LENGTH))


class TicketHandler(ApiHandler):
    """`POST`: a one-time ticket for a URL, in place of a token."""

    takes_body = False

    def initialize(self, tickets: Tickets) -> None:
        self.tickets = tickets

    async def post(self) -> None:
        if self.by_ticket:
            raise Problem(403, phrase("a ticket buys no ticket: use the token"))
        ticket = await self.tickets.issue(self.identity)
        life = max(1, int(self.tickets.life_of(self.identity)))
        self.answer({"ticket": ticket, "expires_in": life})


class SessionHandler(ApiHandler):
    """`POST`: a cookie for pages of the same site, in place of the token. `DELETE`: sign out."""

    takes_body = False
    anonymous = True

    def check_request(self) -> None:
        if self.settings.get("authenticate") is not None:
            raise Problem(404, phrase("the application signs in by itself: its own session counts"))

    async def post(self) -> None:
        shown = find_credential(self.request.headers, self.get_query_arguments)
        expires_at = self.identity.expires_at
        if self.by_ticket or self.by_cookie:
            raise Problem(403, phrase("only a token buys a cookie"))
        if len(shown.token) > MOST_COOKIE_BYTES:
            raise Problem(
                422,
                phrase(
                    "the token is longer than {most} bytes",
                    most=MOST_COOKIE_BYTES,
                ),
            )
        seconds = min(expires_at - time.time(), MOST_COOKIE_SECONDS)
        self.set_cookie(SESSION_COOKIE, shown.token, max_age=int(seconds), **self._attributes())
        self.answer({"user_id": self.identity.user_id, "expires_at": expires_at})

    async def delete(self) -> None:
        self.clear_cookie(SESSION_COOKIE, **self._attributes())
        self.set_status(204)

    def _attributes(self) -> dict[str, Any]:
        secure = self.request.protocol == "https"
        return {"path": self.at("/"), "httponly": True, "samesite": "Strict", "secure": secure}


class DemoLoginHandler(ApiHandler):
    """A token without a scope for anybody who asks; on only for this machine's own users.

    `GET` also says who has signed in by a cookie.

    `configuration` and `secret` sign it; `enabled` is what the settings say.
    """

    anonymous = True

    def initialize(self, configuration: Settings, secret: str, enabled: bool) -> None:
        self.configuration = configuration
        self.secret = secret
        self.enabled = enabled and asks_directly(self.request)

    async def get(self) -> None:
        user = self.current_user.user_id if self.by_cookie and self.current_user else None
        users = DEMO_USERS if self.enabled else []
        self.answer({"enabled": self.enabled, "users": users, "user_id": user})

    async def post(self) -> None:
        if not self.enabled:
            raise Problem(404, phrase("the demo login is off: use a token"))
        user_id = self.body(DemoLogin).user_id
        token, expires_at = make_token(
            self.configuration, self.secret, user_id, [], DEMO_TTL_SECONDS
        )
        self.answer({"token": token, "user_id": user_id, "expires_at": expires_at})
