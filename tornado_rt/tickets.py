"""One-time stand-ins for a token, for a URL that may end up in a log.

A browser opens an event stream again by the address that it was given. So a ticket that has opened
one is kept for that address alone, until its token expires.
"""

import contextlib
import hashlib
import math
import re
import secrets
import time
from pathlib import Path
from typing import cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.auth import NO_SCOPES, AuthError, Identity
from tornado_rt.redis import KEY_TYPES, SHARED_HOME
from tornado_rt.work.texts import phrase

TICKET_PREFIX = SHARED_HOME + "ticket:"
WAITING_PREFIX = SHARED_HOME + "tickets:"
KEPT_PREFIX = SHARED_HOME + "tickets-kept:"
ISSUE = KEY_TYPES + (Path(__file__).parent / "tickets.lua").read_text()
KEEP = KEY_TYPES + (Path(__file__).parent / "tickets_keep.lua").read_text()
TICKET_BYTES = 32
FORM = re.compile(r"[A-Za-z0-9_-]{43}")


class TooManyTickets(Exception):
    """The user has too many unused tickets; `retry_after` is when the next one expires [s]."""

    def __init__(self, most: int, retry_after: float) -> None:
        super().__init__(phrase("{most} tickets wait to be used", most=most))
        self.retry_after = retry_after


class Tickets:
    """Tickets in Redis, each for one request of the user that it was made for.

    `most_waiting` is how many of a user may wait to be used, and how many are kept for event
    streams, of which the oldest goes; 0 for any number.
    """

    def __init__(self, redis: Redis, ttl_seconds: int, most_waiting: int = 0) -> None:
        self._redis = redis
        self._issue = redis.register_script(ISSUE)
        self._keep = redis.register_script(KEEP)
        self._most_waiting = most_waiting
        self.ttl_seconds = ttl_seconds

    def life_of(self, identity: Identity) -> float:
        """Return for how long a ticket made now is valid: never longer than its token [s]."""
        return min(self.ttl_seconds, identity.expires_at - time.time())

    async def issue(self, identity: Identity) -> str:
        """Return a ticket that one request may redeem within the time to live.

        Raise AuthError when the token has expired, TooManyTickets.
        """
        milliseconds = math.floor(self.life_of(identity) * 1000)
        if milliseconds < 1:
            raise AuthError(phrase("the token has expired"))
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        scopes, topics = sorted(identity.scopes), identity.topics
        stored = orjson.dumps([identity.user_id, scopes, identity.expires_at, topics])
        keys = [_ticket_key(ticket), _waiting_key(identity.user_id)]
        wait = int(await self._issue(keys, [stored, milliseconds, self._most_waiting]))
        if wait:
            raise TooManyTickets(self._most_waiting, wait / 1000)
        return ticket

    async def look(self, ticket: str, address: str | None = None) -> Identity:
        """Return whom the ticket stands for, and leave it. Raise AuthError as `redeem` does.

        `address`: of an event stream, which it may be kept for.
        """
        key = _ticket_key(ticket)
        return _identity(cast("bytes | None", await self._redis.get(key)), address)

    async def keep(self, ticket: str, address: str) -> Identity:
        """Return whom the ticket stands for; from here on it opens this event stream alone.

        Raise AuthError as `redeem` does.
        """
        key = _ticket_key(ticket)
        stored = cast("bytes | None", await self._redis.get(key))
        identity = _identity(stored, address)
        scopes, topics = sorted(identity.scopes), identity.topics
        bound = orjson.dumps(
            [identity.user_id, scopes, identity.expires_at, topics, _digest(address)]
        )
        milliseconds = math.ceil((identity.expires_at - time.time()) * 1000)
        keys = [key, _waiting_key(identity.user_id), KEPT_PREFIX + _digest(identity.user_id)]
        limits = (max(milliseconds, 1), self._most_waiting)
        if not await self._keep(keys, [stored or b"", bound, *map(str, limits)]):
            # Another request was first with it.
            _identity(cast("bytes | None", await self._redis.get(key)), address)
        return identity

    async def redeem(self, ticket: str) -> Identity:
        """Return whom the ticket stands for, once.

        Raise AuthError when it is used or unknown, or its token has expired.
        """
        key = _ticket_key(ticket)
        identity = _identity(cast("bytes | None", await self._redis.getdel(key)))
        if self._most_waiting:
            # Otherwise the entry expires with its time.
            with contextlib.suppress(RedisError):
                await self._redis.zrem(_waiting_key(identity.user_id), key)
        return identity


def _identity(stored: bytes | None, address: str | None = None) -> Identity:
    if stored is None:
        raise AuthError(phrase("the ticket is unknown, used or expired"))
    try:
        # A version before has written less, a later one may have written more.
        user_id, scopes, expires_at, *more = orjson.loads(stored)
        topics = tuple(map(str, more[0])) if more else ()
        bound = more[1] if len(more) > 1 and isinstance(more[1], str) else None
        known = frozenset(scopes) or NO_SCOPES
        identity = Identity(str(user_id), known, float(expires_at), topics=topics)
    except (ValueError, TypeError) as error:
        raise AuthError(phrase("the ticket cannot be read")) from error
    if identity.expires_at <= time.time():
        raise AuthError(phrase("the token of the ticket has expired"))
    if bound is not None and (address is None or bound != _digest(address)):
        raise AuthError(phrase("the ticket is for another address"))
    return identity


def _ticket_key(ticket: str) -> str:
    if not FORM.fullmatch(ticket):
        raise AuthError(phrase("that is not a ticket"))
    # Hashed, so that the store alone redeems nothing.
    return TICKET_PREFIX + _digest(ticket)


def _waiting_key(user_id: str) -> str:
    return WAITING_PREFIX + _digest(user_id)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
