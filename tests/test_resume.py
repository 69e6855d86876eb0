"""Coming back: cut off behind any message, a client sees each state once, on both transports."""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Claim
from settings import Settings
from tests.api import Client, frame, serving
from tests.queueing import fragment
from tests.realtime import EventStream
from tornado_rt.protocol import Cursor

pytestmark = pytest.mark.long

Token = Callable[..., str]
Step = Callable[[], Awaitable[Any]]
Block = tuple[str, str, dict[str, Any]]
STATES = ("progress", "finished", "notification")
EARLIER = "0123456789abcdef-5"


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task and says nothing by itself, on empty stores."""
    return settings.changed(
        ws_heartbeat_seconds=0.0, sse_heartbeat_seconds=0.0, max_connections_per_user=0
    )


@attrs.define
class Follower(ABC):
    """A client that drops the ids that it has seen and comes back with the last one."""

    client: Client
    path: str
    last_id: str = ""
    states: list[Block] = attrs.field(factory=list)
    resyncs: list[str] = attrs.field(factory=list)
    blocks: int = 0
    seen: set[str] = attrs.field(factory=set)
    opened: list[tuple[str, str]] = attrs.field(factory=list)
    _link: Any = None

    @property
    def offsets(self) -> list[int]:
        """The places of the states that it saw, in their order."""
        return [Cursor.parse(id_).offset for _, id_, _ in self.states]

    @property
    def place(self) -> int:
        """Where it is in the log; -1 before it knows."""
        epoch, _, offset = self.last_id.partition("-")
        return int(offset) if offset and epoch not in EARLIER else -1

    @property
    def ended(self) -> bool:
        return bool(self.states) and self.states[-1][0] == "finished"

    def had(self, cut: int) -> bool:
        """Say whether there was a message of this number; a later cut changes nothing either."""
        return self.blocks >= cut

    async def open(self) -> Self:
        """Connect; on an event stream, return also when there is nothing more."""
        self._link = await self._connect()
        return self

    async def read(self) -> str:
        """Take one message; return its type."""
        type_, id_, data = await self._next()
        self.blocks += 1
        if type_ == "resync":
            self.resyncs.append(data["reason"])
        if id_:
            # No message of one connection has the id of another.
            assert id_ not in [one for _, one in self.opened], (type_, id_, self.opened)
            self.opened.append((type_, id_))
            self.last_id = id_
        if type_ in STATES and id_ not in self.seen:
            self.states.append((type_, id_, data))
        if id_ and type_ != "resync":
            self.seen.add(id_)
        return type_

    async def read_up_to(self, offset: int) -> None:
        while self.place < offset:
            await self.read()

    async def come_back(self) -> None:
        """Be cut off, and connect again."""
        self.close()
        self.opened.clear()
        await self.open()

    @abstractmethod
    def close(self) -> None:
        """Cut the connection off."""

    @abstractmethod
    async def _connect(self) -> Any: ...

    @abstractmethod
    async def _next(self) -> Block: ...


class StreamFollower(Follower):
    """Follows an event stream."""

    async def _connect(self) -> EventStream:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        stream = await self.client.stream(self.path, **headers)
        assert stream.status == (204 if self.ended else 200)
        return stream

    async def _next(self) -> Block:
        event = await self._link.event()
        assert self.opened or event["event"] == "connected"
        return event["event"], event.get("id", ""), json.loads(event["data"])

    def close(self) -> None:
        self._link.writer.transport.abort()


class SocketFollower(Follower):
    """Follows a WebSocket."""

    async def _connect(self) -> Any:
        query = f"?last_id={self.last_id}" if self.last_id else ""
        return await self.client.socket(self.path + query)

    async def _next(self) -> Block:
        one = await frame(self._link)
        return one["type"], one.get("id", ""), one["data"]

    def close(self) -> None:
        self._link.protocol.stream.close()


FOLLOWERS: dict[str, type[Follower]] = {"/api": StreamFollower, "/api/ws": SocketFollower}


@attrs.frozen
class Story:
    """The course of a task or batch, step by step, up to its end."""

    kind: str
    id: str
    steps: Sequence[Step]
    heads: Callable[[], Awaitable[int]]

    def follower(self, alice: Client, transport: str) -> Follower:
        folder = "tasks" if self.kind == "task" else "batches"
        return FOLLOWERS[transport](alice, f"{transport}/{folder}/{self.id}")


class Work:
    """Tells stories on the queue of a running server."""

    def __init__(self, alice: Client) -> None:
        self._alice = alice
        self._queue = alice.core.queue
        self._claims: dict[str, Claim] = {}

    async def count_steps(self, tell: "Callable[[Work], Awaitable[Story]]") -> int:
        """Run a story to its end, and return how long it is."""
        story = await tell(self)
        for step in story.steps:
            await step()
        return len(story.steps)

    async def task(self, *verbs: str) -> Story:
        id_ = await self._alice.submit()
        return self._story("task", id_, [lambda verb=one: self._do(verb, id_) for one in verbs])

    async def batch(self) -> Story:
        body = {"symbols": ["AAPL", "IBM"]}
        made = (await self._alice.post("/api/batches", body)).body
        one, other = made["task_ids"]
        todo = [("claim", one), ("claim", other), ("report", one), ("complete", one)]
        todo += [("report", other), ("complete", other)]
        steps = [lambda verb=verb, id_=id_: self._do(verb, id_) for verb, id_ in todo]
        return self._story("batch", made["batch_id"], steps)

    def _story(self, kind: Any, id_: str, steps: Sequence[Step]) -> Story:
        async def head() -> int:
            return (await self._queue.read_heads(kind, [id_]))[id_].offset

        return Story(kind, id_, steps, head)

    async def _do(self, verb: str, id_: str) -> None:
        queue = self._queue
        if verb == "claim":
            [claim] = (await queue.claim("tester", 1, kinds=["analysis"])).claims
            assert claim.task.task_id == id_
            self._claims[id_] = claim
        elif verb == "cancel":
            await queue.cancel_task(id_)
        elif verb == "release":
            await queue.release_task(id_, self._claims[id_].token)
        elif verb == "report":
            await queue.report_progress(id_, self._claims[id_].token, fragment(40), 40)
        else:
            await queue.ack_task(id_, token=self._claims[id_].token, result={})


STORIES: dict[str, Callable[[Work], Awaitable[Story]]] = {
    "a task": lambda work: work.task("claim", "report", "complete"),
    "a task that is given back": lambda work: work.task("claim", "release", "claim", "complete"),
    "a task that never starts": lambda work: work.task("cancel"),
    "a batch": lambda work: work.batch(),
}


async def follow(
    story: Story, follower: Follower, first: int, cut: int, away: int
) -> tuple[int, int]:
    """Come after `first` steps, be cut off behind the message numbered `cut`, miss `away` steps.

    Return the place that was the newest when it came, and the last of all.
    """
    waiting = list(story.steps)
    for _ in range(first):
        await waiting.pop(0)()
    begin = await story.heads()
    await follower.open()
    while True:
        while follower.place < await story.heads():
            await follower.read()
            if follower.blocks == cut:
                for step in waiting[:away]:
                    await step()
                del waiting[:away]
                await follower.come_back()
                if follower.ended:
                    break
        if not waiting:
            follower.close()
            ended = follower.ended and first == len(story.steps)
            return begin - ended, await story.heads()
        await waiting.pop(0)()


BOTH = [(name, transport) for name in STORIES for transport in FOLLOWERS]
# A batch has no socket of its own.
BOTH.remove(("a batch", "/api/ws"))


@pytest.mark.gen_test
@pytest.mark.parametrize(("name", "transport"), BOTH)
async def test_each_state_is_seen_once_whatever_the_cut(
    quiet: Settings, make_token: Token, name: str, transport: str
) -> None:
    """Also the first snapshot, and without a resync, since nothing was lost."""
    async with serving(quiet, make_token("alice")) as alice:
        work = Work(alice)
        steps = await work.count_steps(STORIES[name])
        for first in range(steps + 1):
            left = steps - first
            for cut in range(1, 2 * left + 4):
                for away in {0, min(1, left), left}:
                    story = await STORIES[name](work)
                    follower = story.follower(alice, transport)
                    begin, last = await follow(story, follower, first, cut, away)
                    case = (first, cut, away, follower.states)
                    # The first event is not logged: what came after it has replaced it.
                    replaced = begin == cut == 1 and away > 0
                    assert follower.offsets == list(range(begin + replaced, last + 1)), case
                    assert follower.states[0][0] == "progress", case
                    assert follower.ended, case
                    assert follower.resyncs == [], case
                if not follower.had(cut):
                    break


@pytest.mark.gen_test
@pytest.mark.parametrize(("name", "transport"), BOTH)
async def test_cut_behind_each_message_in_turn(
    quiet: Settings, make_token: Token, name: str, transport: str
) -> None:
    """A connection that never brings more than one message brings all of them in the end."""
    async with serving(quiet, make_token("alice")) as alice:
        story = await STORIES[name](Work(alice))
        follower = story.follower(alice, transport)
        await follower.open()
        for step in (*story.steps, None):
            while not follower.states or follower.offsets[-1] < await story.heads():
                while await follower.read() == "connected":
                    pass
                await follower.come_back()
            if step is not None:
                await step()
        assert follower.offsets == list(range(1, await story.heads() + 1))
        assert (follower.ended, follower.resyncs) == (True, [])
        follower.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(("name", "transport"), BOTH)
async def test_resync_is_told_until_it_was_seen(
    quiet: Settings, make_token: Token, name: str, transport: str
) -> None:
    """A client with a lost cursor is told so once, and gets everything once."""
    async with serving(quiet, make_token("alice")) as alice:
        work = Work(alice)
        steps = await work.count_steps(STORIES[name])
        for first in range(steps + 1):
            for cut in range(1, 5):
                story = await STORIES[name](work)
                follower = story.follower(alice, transport)
                follower.last_id = EARLIER
                begin, last = await follow(story, follower, first, cut, 0)
                case = (first, cut, follower.states)
                assert follower.offsets == list(range(begin, last + 1)), case
                assert follower.resyncs == ["epoch"], case


@pytest.mark.gen_test
@pytest.mark.parametrize("transport", FOLLOWERS)
async def test_log_of_one_message_is_enough_for_who_missed_none(
    quiet: Settings, make_token: Token, transport: str
) -> None:
    """However few messages are kept: the newest is among them."""
    async with serving(quiet.changed(task_events=1), make_token("alice")) as alice:
        work = Work(alice)
        for first in range(4):
            story = await STORIES["a task"](work)
            follower = story.follower(alice, transport)
            begin, last = await follow(story, follower, first, 1, 0)
            assert follower.offsets == list(range(begin, last + 1)), first
            assert follower.resyncs == [], first


@pytest.mark.gen_test
@pytest.mark.parametrize("transport", FOLLOWERS)
async def test_cursors_of_the_version_before_stay_valid(
    quiet: Settings, make_token: Token, transport: str
) -> None:
    """It gave `connected` the id of the snapshot, which stood in its data."""
    async with serving(quiet, make_token("alice")) as alice:
        work = Work(alice)
        for first in range(4):
            story = await STORIES["a task"](work)
            for step in story.steps[:first]:
                await step()
            follower = story.follower(alice, transport)
            reply = await alice.core.queue.read_events("task", story.id)
            follower.last_id = str(reply.snapshot.id)
            begin = await story.heads() + (first < 3)
            await follower.open()
            for step in story.steps[first:]:
                await step()
            await follower.read_up_to(await story.heads())
            assert follower.offsets == list(range(begin, await story.heads() + 1)), first
            assert follower.resyncs == [], first
            follower.close()


PATHS = {"/api": "/api/notifications/stream", "/api/ws": "/api/ws/notifications"}


@pytest.mark.gen_test
@pytest.mark.parametrize("transport", FOLLOWERS)
async def test_each_notification_is_seen_once_whatever_the_cut(
    quiet: Settings, make_token: Token, transport: str
) -> None:
    """Those that came before the stream was opened are none of its news."""

    async with serving(quiet, make_token("alice")) as alice:

        async def head() -> int:
            counts = (await alice.get("/api/notifications/unread_count")).body
            return int(counts["version"])

        async def step() -> None:
            draft = {"user_id": "alice", "type": "alert", "title": "news"}
            assert (await alice.post("/api/notifications", draft)).status == 201

        for first in range(3):
            for cut in range(1, 7):
                for away in range(4 - first):
                    story = Story("user", "alice", [step] * 3, head)
                    follower = FOLLOWERS[transport](alice, PATHS[transport])
                    begin, last = await follow(story, follower, first, cut, away)
                    case = (first, cut, away)
                    assert follower.offsets == list(range(begin + 1, last + 1)), case
                    assert follower.resyncs == [], case
                if not follower.had(cut):
                    break
