"""Measurements of one inbox that every server gets alike."""

import asyncio
import itertools
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import attrs

from benchmarks.inboxes import USERS, user
from benchmarks.inboxes.client import Answer, Link, linked, request, socket
from benchmarks.inboxes.filling import CONTENT
from benchmarks.inboxes.servers import Server
from benchmarks.programs import Failed

PATH = "/api/notifications"
SOCKET_PATH = "/api/ws/notifications"
UNREAD = "&status=unread"
PAGE = 50
MARKED = 20
BEHIND = 10
CREATORS = 64
READERS = 16
WARM = 5
# Work that a request leaves behind is done in less.
PAUSE_SECONDS = 0.01
SETTLE_SECONDS = 0.3
PROBE_SECONDS = 0.005
STALL_SECONDS = 0.05
LONGEST = 5
PHASE_SECONDS = 900.0


class Measure(StrEnum):
    """A request that is timed; for the two rates many are made at once."""

    LIST = "list of 50, after a change"
    SAME_LIST = "list of 50, unchanged"
    UNREAD_LIST = "list of 50 unread, after a change"
    OLDER_LIST = "list of 50 before a cursor"
    COUNT = "unread count"
    CREATE = "create one"
    RESUME = "resume, 10 behind"
    MARK = "mark one read"
    MARK_20 = "mark 20 read"
    DELETE = "delete one"
    LISTS = "lists, 16 clients"
    CREATES = "creates, 64 clients, 100 users"


RATES = (Measure.LISTS, Measure.CREATES)


@attrs.frozen
class Cost:
    """Seconds a request; of a rate there is no `p95`."""

    median: float
    p95: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Cost":
        """Sum up some requests, two at least."""
        return cls(statistics.median(seconds), statistics.quantiles(seconds, n=20)[18])


@attrs.frozen
class Probed:
    """Times that a probe of an idle server met; all in seconds."""

    seconds: float
    requests: int
    longest: Sequence[float]
    stalls: int
    refused: int
    # The lateness of the probe itself: the machine's share.
    late: float


@attrs.frozen
class Found:
    """All of one server at one size; why some of it could not be measured."""

    costs: dict[Measure, Cost]
    probed: Probed
    client: float
    store: Mapping[str, float]
    missing: Sequence[str] = ()


@attrs.frozen
class Need:
    """Number of requests of each kind, and length of rates and of the probe [s]."""

    samples: int
    seconds: float
    probe_seconds: float


@attrs.frozen
class Inbox:
    """The measured user's, with one connection to it."""

    server: Server
    link: Link

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """Make a request of the user."""
        return request(method, PATH + path, self.server.token(user(0)), body)

    def creation(self, number: int = 0) -> bytes:
        """Make a request that creates a notification of a user."""
        made = {
            "user_id": user(number),
            "type": "alert",
            "title": "Report",
            "content": CONTENT,
            "link": "/reports/1",
            "source": "benchmark",
            "metadata": {"report": 1},
        }
        return self.request("POST", "", made)

    async def create(self) -> None:
        """Change the list, and wait until that is all done. Raise Failed."""
        (await self.link.ask(self.creation())).expect(201)
        await asyncio.sleep(PAUSE_SECONDS)

    async def pages(self, query: str = "") -> AsyncIterator[Any]:
        """Yield page after page, the newest first. Raise Failed."""
        before = ""
        while True:
            sent = self.request("GET", f"?limit={PAGE}{query}{before}")
            page = (await self.link.ask(sent)).expect(200).json()
            yield page
            if not page["next"]:
                break
            before = f"&before={page['next']}"

    async def ids(self, most: int, query: str = "") -> list[str]:
        """Return those of the newest."""
        found: list[str] = []
        async for page in self.pages(query):
            found += [one["id"] for one in page["items"]]
            if len(found) >= most:
                break
        return found[:most]

    async def older(self) -> list[bytes]:
        """Make requests for each page but the first."""
        nexts = [page["next"] async for page in self.pages() if page["next"]]
        return [self.request("GET", f"?limit={PAGE}&before={place}") for place in nexts]

    async def unread(self, count: int) -> list[str]:
        """Return this many unread ones; make those that are missing."""
        missing = count - len(await self.ids(count, UNREAD))
        for _ in range(missing):
            await self.create()
        return await self.ids(count, UNREAD)


Phase = Callable[[Inbox, Need], Awaitable[Cost]]


async def measure(server: Server, need: Need) -> Found:
    """Measure a server on a store that was filled. Raise Failed."""
    costs: dict[Measure, Cost] = {}
    missing: list[str] = []
    async with opened(server) as inbox:
        probed = await probe(inbox, need.probe_seconds)
        client = await _client_cost(inbox, need.samples)
    for name, phase in PHASES.items():
        try:
            async with asyncio.timeout(PHASE_SECONDS), opened(server) as inbox:
                costs[name] = await phase(inbox, need)
        except (Failed, TimeoutError) as reason:
            missing.append(f"{name}: {str(reason) or 'it takes too long'}")
        await asyncio.sleep(SETTLE_SECONDS)
    return Found(costs, probed, client, server.store, missing)


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Inbox]:
    """Connect to the measured inbox for the block."""
    async with linked(server.port) as [link]:
        yield Inbox(server, link)


async def probe(inbox: Inbox, seconds: float) -> Probed:
    """Count or list every 5 ms for this time; nobody else asks anything."""
    reads = itertools.cycle(await _reads(inbox))
    clock = time.perf_counter
    answers: list[Answer] = []
    late, due = 0.0, clock()
    end = due + seconds
    while due < end:
        await asyncio.sleep(due - clock())
        late = max(late, clock() - due)
        answers.append(await inbox.link.ask(next(reads)))
        due = max(due + PROBE_SECONDS, clock())
    took = sorted((one.seconds for one in answers), reverse=True)
    stalls = sum(one > STALL_SECONDS for one in took)
    refused = sum(one.status != 200 for one in answers)
    return Probed(seconds, len(answers), took[:LONGEST], stalls, refused, late)


async def _reads(inbox: Inbox) -> list[bytes]:
    """Make counts and lists in turn; no list is like the one before."""
    count = inbox.request("GET", "/unread_count")
    return [one for older in await inbox.older() for one in (count, older)]


async def _client_cost(inbox: Inbox, samples: int) -> float:
    """Return the processor time of this client for one list [s]."""
    page = inbox.request("GET", f"?limit={PAGE}")
    before = time.process_time()
    await _timed(inbox, itertools.repeat(page, samples + WARM))
    return (time.process_time() - before) / (samples + WARM)


async def _timed(
    inbox: Inbox, requests: Iterator[bytes], status: int = 200, *, changing: bool = False
) -> Cost:
    """Send one after another, the first ones to warm up; `changing`: create one before each."""
    took = []
    for sent in requests:
        if changing:
            await inbox.create()
        took.append((await inbox.link.ask(sent)).expect(status).seconds)
    return Cost.of(took[WARM:])


def _repeated(path: str, *, changing: bool = False) -> Phase:
    async def phase(inbox: Inbox, need: Need) -> Cost:
        sent = itertools.repeat(inbox.request("GET", path), need.samples + WARM)
        return await _timed(inbox, sent, changing=changing)

    return phase


async def _older_lists(inbox: Inbox, need: Need) -> Cost:
    older = itertools.cycle(await inbox.older())
    return await _timed(inbox, itertools.islice(older, need.samples + WARM))


async def _create(inbox: Inbox, need: Need) -> Cost:
    sent = inbox.creation()
    took = []
    for _ in range(need.samples + WARM):
        took.append((await inbox.link.ask(sent)).expect(201).seconds)
        # Alone: also without what the one before has left to do.
        await asyncio.sleep(PAUSE_SECONDS)
    return Cost.of(took[WARM:])


async def _mark(inbox: Inbox, need: Need) -> Cost:
    ids = await inbox.unread(need.samples + WARM)
    return await _timed(inbox, (inbox.request("POST", f"/{id_}/read") for id_ in ids))


async def _mark_20(inbox: Inbox, need: Need) -> Cost:
    # There are not more in the inbox.
    rounds = min(max(need.samples // 10, 4), 40) + WARM
    ids = await inbox.unread(rounds * MARKED)
    parts = ({"ids": ids[n * MARKED : (n + 1) * MARKED]} for n in range(rounds))
    return await _timed(inbox, (inbox.request("POST", "/read", part) for part in parts))


async def _delete(inbox: Inbox, need: Need) -> Cost:
    ids = await inbox.ids(need.samples + WARM)
    return await _timed(inbox, (inbox.request("DELETE", f"/{id_}") for id_ in ids), 204)


async def _resume(inbox: Inbox, need: Need) -> Cost:
    """From the connect on until the newest of ten is there."""
    server, took = inbox.server, []
    async with socket(server.port, SOCKET_PATH, server.token(user(0))) as listener:
        await listener.message_of("connected")
        cursors: deque[str] = deque(maxlen=BEHIND + 1)
        for number in range(need.samples + WARM + BEHIND):
            await inbox.create()
            cursors.append((await listener.message_of("notification"))["id"])
            if number >= BEHIND:
                took.append(await _resume_once(server, cursors[0], cursors[-1]))
    return Cost.of(took[WARM:])


async def _resume_once(server: Server, first: str, last: str) -> float:
    began = time.perf_counter()
    path = f"{SOCKET_PATH}?last_id={first}"
    async with socket(server.port, path, server.token(user(0))) as one:
        while (await one.message_of("notification"))["id"] != last:
            pass
        return time.perf_counter() - began


async def _lists_at_once(inbox: Inbox, need: Need) -> Cost:
    pages = itertools.repeat(inbox.request("GET", f"?limit={PAGE}"))
    return await _rate(inbox.server, READERS, pages, 200, need.seconds)


async def _creates_at_once(inbox: Inbox, need: Need) -> Cost:
    made = itertools.cycle([inbox.creation(number) for number in range(1, USERS + 1)])
    return await _rate(inbox.server, CREATORS, made, 201, need.seconds)


async def _rate(
    server: Server, clients: int, requests: Iterator[bytes], status: int, seconds: float
) -> Cost:
    """Return the cost of one while this many clients each send one after another."""
    answered = 0
    async with linked(server.port, clients) as links:
        began = time.perf_counter()

        async def ask(link: Link) -> None:
            nonlocal answered
            while time.perf_counter() < began + seconds:
                (await link.ask(next(requests))).expect(status)
                answered += 1

        await asyncio.gather(*map(ask, links))
        return Cost((time.perf_counter() - began) / answered)


PHASES: dict[Measure, Phase] = {
    Measure.SAME_LIST: _repeated(f"?limit={PAGE}"),
    Measure.LIST: _repeated(f"?limit={PAGE}", changing=True),
    Measure.UNREAD_LIST: _repeated(f"?limit={PAGE}{UNREAD}", changing=True),
    Measure.OLDER_LIST: _older_lists,
    Measure.COUNT: _repeated("/unread_count"),
    Measure.CREATE: _create,
    Measure.RESUME: _resume,
    Measure.MARK: _mark,
    Measure.MARK_20: _mark_20,
    Measure.DELETE: _delete,
    Measure.LISTS: _lists_at_once,
    Measure.CREATES: _creates_at_once,
}
