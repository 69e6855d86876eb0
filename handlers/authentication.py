"""Tickets, and the demo page's login."""

import attrs

from settings import Settings
from tornado_rt.auth import ADMIN, PUBLISH, USER_ID_LENGTH, Tickets, make_token
from tornado_rt.web import ApiHandler, Problem

DEMO_USERS = ["alice", "bob", "carol", "admin"]
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
DEMO_TTL_SECONDS = 12 * 3600.0


@attrs.frozen
class DemoLogin:
    """The body of `POST /api/auth/demo`."""

    user_id: str = attrs.field(
        validator=[attrs.validators.min_len(1), attrs.validators.max_len(USER_ID_LENGTH)]
    )


class TicketHandler(ApiHandler):
    """`POST`: a one-time ticket for a URL, in place of a token."""

    takes_body = False

    def initialize(self, tickets: Tickets) -> None:
        self.tickets = tickets

    async def post(self) -> None:
        ticket = await self.tickets.issue(self.identity)
        self.answer({"ticket": ticket, "expires_in": self.tickets.ttl_seconds})


class DemoLoginHandler(ApiHandler):
    """A token for whoever asks; on only where nobody but the machine's own user can ask.

    `configuration` and `secret` sign it; `enabled` is false when a secret was configured or the
    server listens beyond the machine.
    """

    anonymous = True

    def initialize(self, configuration: Settings, secret: str, enabled: bool) -> None:
        self.configuration = configuration
        self.secret = secret
        # Another name for this machine may be a hostile page's (DNS rebinding).
        self.enabled = enabled and self.request.host_name in LOOPBACK_NAMES

    async def get(self) -> None:
        self.answer({"enabled": self.enabled, "users": DEMO_USERS if self.enabled else []})

    async def post(self) -> None:
        if not self.enabled:
            raise Problem(404, "the demo login is off: use a token")
        user_id = self.body(DemoLogin).user_id
        scopes = [ADMIN, PUBLISH] if user_id == "admin" else []
        token, expires_at = make_token(
            self.configuration, self.secret, user_id, scopes, DEMO_TTL_SECONDS
        )
        self.answer({"token": token, "user_id": user_id, "expires_at": expires_at})
