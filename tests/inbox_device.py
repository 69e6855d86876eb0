"""A device of the inbox walk: it keeps a list and counts by what a connection sends it.

It follows the real feed over the real connection, hub and backplane; only the socket is left out.
It is cut off now and then, and comes back with the last id that it has seen.
"""

import asyncio
import contextlib
import random
import time
from typing import Any, ClassVar

import attrs

from handlers.feeds import NotificationFeed
from services.notifications import ListState, NotificationService, Query
from tests.inbox_board import Board
from tests.inbox_model import View, view_of
from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.census import Transport
from tornado_rt.connection import Connection
from tornado_rt.feed import Feed, Opening
from tornado_rt.hub import Hub
from tornado_rt.problems import STORE_ERRORS
from tornado_rt.protocol import CloseCode, Cursor, Message, MessageType
from tornado_rt.subscription import Subscription
from tornado_rt.turns import NoTurn

AWAY_SECONDS = (0.0, 0.3)
RETRY_SECONDS = 0.1
# More than anybody has.
EVERYTHING = Query(state=ListState.ALL, limit=100_000)
LATER = (*STORE_ERRORS, NoTurn)


class Line(Connection):
    """A connection without a socket: a device takes each message as it is sent."""

    transport: ClassVar[Transport] = Transport.WEBSOCKET

    def __init__(self, hub: Hub, device: "Device") -> None:
        identity = Identity(device.user, frozenset(), time.time() + 1e6)
        super().__init__(hub, identity, "127.0.0.1", {})
        self.device = device
        # While it sends what the log has: not all versions are in it.
        self.catching_up = False
        self.ended = asyncio.Event()

    def interval(self) -> float:
        return 0.0

    def farewell(self, code: CloseCode) -> bytes:
        return b""

    def encode(self, message: Message) -> bytes:
        return b""

    def received(self, data: bytes) -> None:
        raise AssertionError("a device without a socket has received something")

    def parted(self) -> None:
        raise AssertionError("a device without a socket has parted")

    def send(self, message: Message) -> None:
        for part in () if self.closed else message.parts:
            self.device.take(part, is_live=not self.catching_up)

    def detach(self) -> None:
        super().detach()
        self.ended.set()

    async def open(self, feed: Feed, after: Cursor | None) -> Opening:
        await self.enter()
        watched = Watched(self.hub, feed, self)
        self.subscriptions = (watched,)
        try:
            return await watched.open(after)
        except BaseException:
            self.detach()
            raise

    def begin(self, opening: Opening, after: Cursor | None) -> None:
        self.catching_up = True
        super().begin(opening, after)


class Watched(Subscription):
    """Tells its line when it sends what the log has, and its device up to where it was told."""

    def __init__(self, hub: Hub, feed: Feed, line: Line) -> None:
        super().__init__(hub, feed, line)
        self._line = line

    def _catch_up(self, opening: Opening, *, had_gap: bool = False) -> None:
        self._line.catching_up = True
        super()._catch_up(opening, had_gap=had_gap)
        self._line.catching_up = False

    def _release(self) -> None:
        self._line.catching_up = False
        # A notification that came and went meanwhile is not told.
        if not self._line.closed:
            self._line.device.seen = self._cursor
        super()._release()


@attrs.define(eq=False)
class Device:
    """One device of a user.

    `items` are by id, as events and the last list have left them; None before there was a list.
    """

    user: str
    number: int
    service: NotificationService
    hub: Hub
    board: Board
    notes: Any
    last_id: str = ""
    items: dict[str, View] | None = None
    # Up to where it was told.
    seen: Cursor | None = None
    counts: tuple[int, int, int] = (0, 0, 0)
    # Messages that came while there was no list yet.
    _early: list[Message] = attrs.field(factory=list)
    _line: Line | None = None
    _listing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return f"{self.user}/{self.number}"

    async def stay(self, rng: random.Random, seconds: float) -> None:
        """Be connected, and cut after `seconds` or less; come back until cancelled."""
        while True:
            if self._line is None or self._line.closed:
                await self.connect()
            assert self._line is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.uniform(0, seconds)):
                    await self._line.ended.wait()
            self.cut()
            await asyncio.sleep(rng.uniform(*AWAY_SECONDS))

    async def hold(self) -> None:
        """Be connected and come back at once, until cancelled."""
        while True:
            if self._line is None or self._line.closed:
                await self.connect()
            assert self._line is not None
            await self._line.ended.wait()

    async def connect(self) -> None:
        """Open a connection behind the last id; try until it is open."""
        while True:
            line = Line(self.hub, self)
            after = Cursor.parse(self.last_id) if self.last_id else None
            try:
                feed = NotificationFeed(self.service, self.user)
                opening = await line.open(feed, after)
            except LATER:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._line = line
            if after is None:
                self.want_list()
            line.begin(opening, after)
            return

    def cut(self) -> None:
        """Lose the connection."""
        if self._line is not None:
            self._line.detach()
            self._line = None

    def take(self, message: Message, *, is_live: bool) -> None:
        """Take one message as a client does."""
        if message.id is not None:
            self._note_id(message, is_live)
        if message.type == MessageType.RESYNC:
            self.notes.write("resync", message.fields()["reason"])
            self.want_list()
        elif message.type == MessageType.UNREAD_COUNT:
            data = message.fields()
            self.keep_counts(data["unread"], data["unseen"], data["version"])
        elif message.type == MessageType.CONNECTED:
            data = message.fields()
            self.keep_counts(data["unread_count"], data["unseen_count"], data["version"])
        elif message.type in (MessageType.NOTIFICATION, MessageType.CHANGED):
            self._apply(message)

    def keep_counts(self, unread: int, unseen: int, version: int) -> None:
        """Keep those of the highest version."""
        self.notes.counts(self.user, version, unread, unseen)
        self.board.raise_floor(self.user, version)
        self.counts = max(self.counts, (version, unread, unseen))

    def want_list(self) -> None:
        """Fetch the list anew."""
        self.items, self._early = None, []
        if self._listing is not None:
            self._listing.cancel()
        self._listing = asyncio.create_task(self._fetch(), name="device-list")

    async def _fetch(self) -> None:
        while True:
            floor = self.board.floor(self.user)
            try:
                page = await self.service.find(self.user, EVERYTHING)
                break
            except LATER:
                await asyncio.sleep(RETRY_SECONDS)
        views = [view_of(one.to_dict()) for one in page.items]
        self.notes.listed(self.user, "all", floor, page, views)
        self.items = {view[0]: view for view in views}
        self.keep_counts(page.unread, page.unseen, page.version)
        early, self._early = self._early, []
        for message in early:
            self._apply(message)

    def _note_id(self, message: Message, is_live: bool) -> None:
        cursor, seen = message.cursor, self.seen
        assert cursor is not None
        assert message.id is not None
        self.last_id = message.id
        if message.type in (MessageType.CONNECTED, MessageType.RESYNC):
            self.seen = cursor
            return
        self.board.raise_floor(self.user, cursor.offset)
        if seen is not None and cursor.offset <= seen.offset:
            self.notes.fail(f"{self.name} got {message} after {seen}")
        if is_live and seen is not None and cursor.offset != seen.offset + 1:
            self.notes.fail(f"{self.name} got {message} live after {seen}")
        if is_live:
            self.notes.told(self.user, message)
        self.seen = cursor

    def _apply(self, message: Message) -> None:
        if self.items is None:
            self._early.append(message)
            return
        # Also one that is older than the list: all that come after it lead to what there is.
        data = message.fields()
        if message.type == MessageType.NOTIFICATION:
            self.items[data["id"]] = view_of(data)
            return
        self.items |= {item["id"]: view_of(item) for item in data["items"]}
        for id_ in data["deleted"]:
            self.items.pop(id_, None)

    async def settle(self) -> None:
        """Wait until it has all that the store has."""
        await until(self._missing, what=f"{self.name} has all", equal="")

    async def _missing(self) -> str:
        """Return what it has not; nothing when it has all."""
        version = (await self.service.counts(self.user))["version"]
        at = 0 if self.seen is None else self.seen.offset
        if self.items is not None and self._line is not None and at == version == self.counts[0]:
            return ""
        has_list = self.items is not None
        return f"of {version}: {at}, counts of {self.counts[0]}, a list: {has_list}, {self._line}"

    def state(self) -> dict[str, Any]:
        """Return what is kept of it on disk."""
        return {
            "last_id": self.last_id,
            "items": self.items,
            "counts": self.counts,
        }

    def go_on(self, state: dict[str, Any]) -> None:
        """Be as it was when that was kept."""
        if state["items"] is None or not state["last_id"]:
            return
        self.last_id = state["last_id"]
        self.seen = Cursor.parse(self.last_id)
        self.items = {id_: tuple(view) for id_, view in state["items"].items()}
        version, unread, unseen = state["counts"]
        self.counts = (version, unread, unseen)
