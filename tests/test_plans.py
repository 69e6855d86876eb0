"""Plans are learned when they are first met, and messages shown by them, in their order."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import attrs
import orjson
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from handlers.feeds import ProgressFeed
from services.progress import PlanBook, get_progress
from services.progress import plans as module
from services.queue import By, Job, NewTask, QueueService
from tests.queue_model import new_task
from tests.realtime import EPOCH, Log, LogFeed, open_hub
from tests.waiting import until
from tornado_rt.feed import Feed, Opening
from tornado_rt.hub import Hub
from tornado_rt.protocol import Bundle, Cursor, Message, MessageType
from tornado_rt.subscription import Subscription, SubscriptionState
from tornado_rt.work import Plan, Step


def plan_of(*names: str) -> Plan:
    return Plan([Step(name) for name in names])


def snapshot(plan: Plan | str | None, **fields: Any) -> bytes:
    digest = plan.digest if isinstance(plan, Plan) else plan
    return orjson.dumps({"status": "processing", "plan": digest, "marks": "r", **fields})


def names(shown: bytes | None) -> list[str]:
    assert shown is not None
    return [step["name"] for step in orjson.loads(shown)["steps"]]


@attrs.define
class Shelf:
    """Where plans are kept. `opened`: while it is not set, reading waits."""

    texts: dict[str, bytes] = attrs.field(factory=dict)
    asked: Counter[str] = attrs.field(factory=Counter)
    calls: int = 0
    opened: asyncio.Event = attrs.field(factory=asyncio.Event)
    away: bool = False

    def __attrs_post_init__(self) -> None:
        self.opened.set()

    def put(self, *plans: Plan) -> None:
        self.texts |= {plan.digest: plan.text for plan in plans}

    async def read(self, digests: Sequence[str]) -> dict[str, bytes]:
        self.calls += 1
        self.asked.update(digests)
        await self.opened.wait()
        if self.away:
            raise RedisError("away")
        return {one: self.texts[one] for one in digests if one in self.texts}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def book(shelf: Shelf) -> PlanBook:
    return PlanBook(shelf.read)


@pytest.mark.gen_test
async def test_plan_is_read_once_and_known_from_then_on(shelf: Shelf, book: PlanBook) -> None:
    plan = plan_of("a", "b")
    shelf.put(plan)
    kept = snapshot(plan)
    assert book.show(kept) is None
    assert names(await book.shown(kept)) == ["a", "b"]
    assert names(book.show(kept)) == ["a", "b"]
    await book.learn([plan.digest] * 3)
    assert shelf.asked == {plan.digest: 1}


@pytest.mark.gen_test
async def test_plan_of_ones_own_is_never_read(shelf: Shelf, book: PlanBook) -> None:
    plan = plan_of("a")
    book.add(plan)
    assert names(await book.shown(snapshot(plan))) == ["a"]
    assert shelf.calls == 0


@pytest.mark.gen_test
async def test_list_is_shown_by_one_call(shelf: Shelf, book: PlanBook) -> None:
    """A plan may have any content."""
    one, other = plan_of("a"), plan_of("b")
    shelf.put(one, other)
    batch = b'{"batch_id":"b1"}'
    kept = [snapshot(one), batch, snapshot(other), snapshot(None), snapshot(one)]
    shown = await book.all_shown(kept)
    assert shown[1] == batch
    assert [names(shown[n]) for n in (0, 2, 3, 4)] == [["a"], ["b"], [], ["a"]]
    assert shelf.calls == 1


@pytest.mark.gen_test
async def test_many_that_miss_a_plan_read_it_once(shelf: Shelf, book: PlanBook) -> None:
    one, other = plan_of("a"), plan_of("b")
    shelf.put(one, other)
    shelf.opened.clear()
    asking = [asyncio.create_task(book.shown(snapshot(one))) for _ in range(50)]
    both = asyncio.create_task(book.learn([one.digest, other.digest]))
    await until(lambda: shelf.calls == 2)
    shelf.opened.set()
    assert {tuple(names(shown)) for shown in await asyncio.gather(*asking)} == {("a",)}
    await both
    assert shelf.asked == {one.digest: 1, other.digest: 1}


@pytest.mark.gen_test
async def test_reader_that_is_cancelled_fails_no_other(shelf: Shelf, book: PlanBook) -> None:
    plan = plan_of("a")
    shelf.put(plan)
    shelf.opened.clear()
    first = asyncio.create_task(book.shown(snapshot(plan)))
    await until(lambda: shelf.calls == 1)
    others = [asyncio.create_task(book.shown(snapshot(plan))) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await until(lambda: shelf.calls == 2)
    shelf.opened.set()
    assert [names(shown) for shown in await asyncio.gather(*others)] == [["a"]] * 3
    with pytest.raises(asyncio.CancelledError):
        await first
    assert shelf.calls == 2


@pytest.mark.gen_test
async def test_store_that_is_away_fails_all_at_once(shelf: Shelf, book: PlanBook) -> None:
    """Nobody waits for one outage after the other; the next asks again."""
    plan = plan_of("a")
    shelf.put(plan)
    shelf.away = True
    shelf.opened.clear()
    asking = [asyncio.create_task(book.shown(snapshot(plan))) for _ in range(3)]
    await until(lambda: shelf.calls == 1)
    shelf.opened.set()
    faults = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(fault) for fault in faults] == [RedisError] * 3
    assert shelf.calls == 1
    shelf.away = False
    assert names(await book.shown(snapshot(plan))) == ["a"]


@pytest.mark.gen_test
async def test_plan_that_nobody_has_is_shown_without_steps_for_a_while(
    shelf: Shelf, book: PlanBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    plan = plan_of("a")
    kept = snapshot(plan)
    assert names(await book.shown(kept)) == []
    now += 0.9
    assert names(book.show(kept)) == []
    assert names(await book.shown(kept)) == []
    assert shelf.calls == 1
    now += 0.2
    assert book.show(kept) is None
    shelf.put(plan)
    assert names(await book.shown(kept)) == ["a"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{}",
        b"7",
        b"[]",
        b'[{"name":1,"weight":1}]',
        b'[{"name":"a","weight":-1}]',
        b'[{"name":"a","weight":1,"steps":7}]',
        b"[" * 100_000,
        b'[{"name":"a","weight":1,"steps":' * 2000,
    ],
)
async def test_plan_that_cannot_be_read_has_no_steps(
    shelf: Shelf, book: PlanBook, text: bytes
) -> None:
    digest = "0123456789abcdef"
    shelf.texts[digest] = text
    assert names(await book.shown(snapshot(digest, message="on"))) == []
    assert names(book.show(snapshot(digest))) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("named", [7, [], {}, "", "market,news:3", "0123456789ABCDEF", "a" * 999])
async def test_what_names_no_plan_asks_nobody(shelf: Shelf, book: PlanBook, named: Any) -> None:
    kept = orjson.dumps({"status": "queued", "plan": named})
    assert names(book.show(kept)) == []
    assert names(await book.shown(kept)) == []
    assert shelf.calls == 0


@pytest.mark.gen_test
async def test_least_used_plans_go_first(shelf: Shelf) -> None:
    book = PlanBook(shelf.read, most=2)
    first, second, third = plan_of("a"), plan_of("b"), plan_of("c")
    book.add(first)
    book.add(second)
    assert book.show(snapshot(first)) is not None
    book.add(third)
    assert [book.show(snapshot(one)) is None for one in (first, second, third)] == [
        False,
        True,
        False,
    ]


@pytest.mark.gen_test
async def test_large_plans_do_not_fill_the_memory(
    shelf: Shelf, book: PlanBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [plan_of(*(f"{n} {m} " + "x" * 180 for m in range(1000))) for n in range(3)]
    monkeypatch.setattr(module, "MOST_PLAN_BYTES", 1_000_000)
    small = PlanBook(shelf.read)
    for plan in large:
        small.add(plan)
        book.add(plan)
    assert [small.show(snapshot(one)) is None for one in large] == [True, False, False]
    assert [book.show(snapshot(one)) is None for one in large] == [False] * 3


def told(plan: Plan | str | None, offset: int, **fields: Any) -> Message:
    data = snapshot(plan, number=offset, **fields)
    return Message(MessageType.PROGRESS, data, str(Cursor(EPOCH, offset)))


@pytest.mark.gen_test
async def test_message_is_shown_once_for_all_subscribers(book: PlanBook) -> None:
    plan = plan_of("a", "b")
    message, later = told(plan, 1), told(plan, 2)
    bundle = Bundle.join([message, later, Message.of(MessageType.FINISHED, {"task_id": "t1"})])
    assert book.show_message(message) is None
    assert book.show_message(bundle) is None
    book.add(plan)
    shown = book.show_message(message)
    assert shown is not None
    assert (shown.type, shown.id, names(shown.data)) == ("progress", message.id, ["a", "b"])
    assert all(book.show_message(message) is shown for _ in range(3))
    whole = book.show_message(bundle)
    assert whole is not None
    assert [part.type for part in whole.parts] == ["progress", "progress", "finished"]
    assert [names(part.data) for part in whole.parts[:2]] == [["a", "b"]] * 2
    assert whole.id == bundle.id
    assert book.show_message(bundle) is whole


@pytest.mark.gen_test
async def test_messages_that_are_shown_are_not_kept_for_ever(book: PlanBook) -> None:
    plan = plan_of("a")
    book.add(plan)
    for offset in range(10_000):
        message = told(plan, offset)
        shown = book.show_message(message)
        assert shown is not None
        assert shown.id == message.id
    assert len(book._shown.values) == module.MOST_MESSAGES
    for offset in range(8):
        assert book.show_message(told(plan, offset, message="x" * 1_000_000)) is not None
    assert len(book._shown.values) <= 4


@pytest.mark.gen_test
@pytest.mark.parametrize("type_", ["progress", "finished", "notification"])
async def test_message_without_a_plan_is_as_it_was(book: PlanBook, type_: str) -> None:
    message = Message.of(type_, {"batch_id": "b1"}, f"{EPOCH}-1")
    shown = book.show_message(message)
    assert shown is not None
    assert shown.encode() == message.encode()


class PlannedFeed(LogFeed):
    """A log of snapshots that name plans. `reads`: how often it was read."""

    def __init__(self, log: Log, book: PlanBook) -> None:
        super().__init__(log)
        self.book = book
        self.reads = 0

    def show(self, message: Message) -> Message | None:
        return self.book.show_message(message)

    async def read(self, after: Cursor | None) -> Opening:
        self.reads += 1
        opening = await super().read(after)
        messages = await self.book.all_shown_messages(opening.messages)
        return attrs.evolve(opening, messages=tuple(messages))


@attrs.define(eq=False)
class Recorder:
    """Keeps what its subscription would send."""

    hub: Hub
    feed: Feed
    pieces: list[Message] = attrs.field(factory=list)
    closed: bool = False
    subscription: Subscription = attrs.field(init=False)

    @subscription.default
    def _subscribe(self) -> Subscription:
        return Subscription(self.hub, self.feed, self)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the snapshots that it got."""
        return [fields["number"] for fields in self.snapshots]

    @property
    def steps(self) -> list[str]:
        """The names of the steps of each, together."""
        return ["".join(step["name"] for step in one["steps"]) for one in self.snapshots]

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        parts = [part for piece in self.pieces for part in piece.parts]
        return [part.fields() for part in parts if part.type == MessageType.PROGRESS]

    async def follow(self) -> None:
        self.subscription.begin(await self.subscription.open(None))

    def forward(self, _: Subscription, message: Message) -> None:
        self.pieces.append(message)

    def finished(self, subscription: Subscription) -> None:
        subscription.end()
        self.closed = True

    def failed(self, _: Subscription, error: Exception) -> None:
        raise error


@attrs.frozen
class Scene:
    """A hub with subscribers of one log; `shelf` has the plans that it names."""

    hub: Hub
    log: Log
    shelf: Shelf
    book: PlanBook

    async def follow(self) -> Recorder:
        reader = Recorder(self.hub, PlannedFeed(self.log, self.book))
        await reader.follow()
        return reader

    def append(self, plan: Plan | str | None, kept: bool = True) -> Message:
        """Log a snapshot, and return it as it is published; not `kept`: its plan is nowhere."""
        message = told(plan, len(self.log.messages) + 1)
        self.log.messages.append(message)
        if isinstance(plan, Plan) and kept:
            self.shelf.put(plan)
        return message

    def publish(self, plan: Plan | str | None, kept: bool = True) -> None:
        self.hub.deliver(self.log.topic, self.append(plan, kept))


@contextlib.asynccontextmanager
async def scene(redis: Redis) -> AsyncIterator[Scene]:
    hub, backplane, _ = open_hub(redis)
    shelf = Shelf()
    async with backplane.running(hub):
        yield Scene(hub, Log(), shelf, PlanBook(shelf.read))
        await hub.drain(0)


def fragment(plan: Plan, marks: str, message: str) -> bytes:
    fields = {"progress": 0.0, "message": message, "current_step": 0, "current_step_name": ""}
    named = {"total_steps": len(plan.leaves), "plan": plan.digest, "marks": marks}
    return orjson.dumps(fields | named)[1:-1]


@pytest.mark.gen_test
async def test_task_of_the_queue_is_followed_through_a_change_of_its_plan(
    redis: Redis, make_queue: Callable[..., QueueService]
) -> None:
    """By a process that has met neither plan before."""
    queue, before, after = make_queue(), plan_of("a", "b"), plan_of("a", "c", "d")
    new = NewTask(
        kind="film", job=Job(label="one"), first=fragment(before, "pp", "Waiting"), plan=before
    )
    task = await queue.enqueue_task("alice", new)
    [claim] = (await queue.claim("w", 1, kinds=["film"])).claims
    hub, backplane, _ = open_hub(redis)
    book = PlanBook(queue.read_plans)
    async with backplane.running(hub):
        by = By.of("alice")
        feed = ProgressFeed(queue, book, "task", task.task_id, hub.limits, by)
        reader = Recorder(hub, feed)
        await reader.follow()
        for plan, marks in ((before, "rp"), (after, "crp"), (after, "ccr")):
            sent = fragment(plan, marks, "on")
            assert await queue.report_progress(task.task_id, claim.token, sent, 10.0, plan=plan)
        await until(lambda: len(reader.snapshots) == 4)
        assert reader.steps == ["ab", "ab", "acd", "acd"]
        states = [[step["status"] for step in one["steps"]] for one in reader.snapshots]
        assert states[1:] == [
            ["current", "pending"],
            ["completed", "current", "pending"],
            ["completed", "completed", "current"],
        ]
        for plans in (book, None):
            assert await get_progress(task.task_id, queue, plans) == reader.snapshots[-1]
        assert await get_progress("none", queue, book) is None
        await queue.ack_task(task.task_id, token=claim.token, result={})
        await until(lambda: reader.closed)
        await hub.drain(0)


PLANS = [plan_of(name) for name in "abcdefgh"]


@pytest.mark.gen_test
async def test_unknown_plan_is_read_with_the_log_and_nothing_is_lost(redis: Redis) -> None:
    """Each message comes once, in its order, with the steps of its own plan."""
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        for plan in PLANS[1:]:
            stage.publish(plan)
            stage.publish(PLANS[0])
        await until(lambda: len(reader.numbers) == 15)
        assert reader.numbers == list(range(1, 16))
        assert reader.steps == ["a", *(step for name in "bcdefgh" for step in (name, "a"))]


@pytest.mark.gen_test
async def test_messages_that_come_while_the_log_is_read_keep_their_order(redis: Redis) -> None:
    """Also when one of them names a plan that was unknown when the log was read."""
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        stage.log.may_read.clear()
        stage.log.reading.clear()
        stage.publish(PLANS[1])
        await stage.log.reading.wait()
        for plan in (PLANS[0], PLANS[2], PLANS[0], PLANS[3]):
            stage.publish(plan)
        stage.log.may_read.set()
        await until(lambda: len(reader.numbers) == 6)
        assert reader.numbers == [1, 2, 3, 4, 5, 6]
        assert reader.steps == ["a", "b", "a", "c", "a", "d"]


@pytest.mark.gen_test
async def test_plan_that_nobody_has_does_not_read_the_log_for_ever(redis: Redis) -> None:
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        feed = reader.feed
        assert isinstance(feed, PlannedFeed)
        for count in range(2, 22):
            stage.publish(PLANS[1], kept=False)
            await until(lambda count=count: len(reader.numbers) == count)
        assert reader.numbers == list(range(1, 22))
        assert reader.steps == ["a", *[""] * 20]
        # Once when it was opened, and once in a second.
        assert feed.reads <= 4


@pytest.mark.gen_test
async def test_garbage_that_the_log_does_not_have_is_passed_over(redis: Redis) -> None:
    """Anybody may publish: one that names a plan of nobody has the log read once."""
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        for offset in (1, 2, 900):
            stage.hub.deliver(stage.log.topic, told("0123456789abcdef", offset))
            stage.hub.deliver(stage.log.topic, told(PLANS[5], offset))
        stage.publish(PLANS[0])
        await until(lambda: reader.numbers == [1, 2])


@pytest.mark.gen_test
async def test_bundle_with_an_unknown_plan_is_read_from_the_log(redis: Redis) -> None:
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        parts = [stage.append(plan) for plan in (PLANS[0], PLANS[1], PLANS[0])]
        reader.subscription.deliver(Bundle.join(parts))
        behind = Bundle.join([stage.append(PLANS[1]), stage.append(PLANS[0])])
        reader.subscription.deliver(behind)
        await until(lambda: len(reader.numbers) == 6)
        assert reader.numbers == [1, 2, 3, 4, 5, 6]
        assert reader.steps == ["a", "a", "b", "a", "b", "a"]
        whole = Bundle.join([stage.append(PLANS[1]), stage.append(PLANS[0])])
        reader.subscription.deliver(whole)
        assert reader.pieces[-1] is stage.book.show_message(whole)


@pytest.mark.gen_test
async def test_end_behind_an_unknown_plan_closes(redis: Redis) -> None:
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        stage.publish(PLANS[1])
        end = stage.log.append(MessageType.FINISHED, task_id="t1")
        stage.hub.deliver(stage.log.topic, end)
        await until(lambda: reader.closed)
        assert reader.steps == ["a", "b"]
        assert reader.pieces[-1].type == MessageType.FINISHED


@pytest.mark.gen_test
async def test_store_that_is_away_delays_an_unknown_plan(redis: Redis) -> None:
    """Events that come meanwhile are shown where possible; the newest is there in the end."""
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        reader = await stage.follow()
        stage.log.away = True
        stage.publish(PLANS[1])
        await until(lambda: reader.subscription.state is SubscriptionState.BEHIND)
        stage.publish(PLANS[0])
        stage.publish(PLANS[2])
        await until(lambda: reader.numbers == [1, 3])
        stage.log.away = False
        await until(lambda: reader.numbers[-1] == 4)
        assert reader.steps == ["a", "a", "c"]


@pytest.mark.gen_test
async def test_crowd_that_meets_a_new_plan_reads_it_once(redis: Redis) -> None:
    """All get every message in order, and those that come later on their way need no log."""
    async with scene(redis) as stage:
        stage.append(PLANS[0])
        crowd = [await stage.follow() for _ in range(1000)]
        stage.publish(PLANS[1])
        stage.publish(PLANS[0])
        await until(lambda: all(one.numbers == [1, 2, 3] for one in crowd))
        assert {tuple(one.steps) for one in crowd} == {("a", "b", "a")}
        assert stage.shelf.asked[PLANS[1].digest] == 1
        again = sum(one.feed.reads - 1 for one in crowd if isinstance(one.feed, PlannedFeed))
        assert again < len(crowd)
        stage.publish(PLANS[1])
        await until(lambda: all(one.numbers[-1] == 4 for one in crowd))
        assert len({id(one.pieces[-1]) for one in crowd}) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(("found", "length", "kept"), [(1, 3, 30), (1, 200, 20), (4, 200, 8)])
async def test_plans_of_a_task_are_kept_for_as_long_as_they_fit(
    redis: Redis, make_queue: Callable[..., QueueService], found: int, length: int, kept: int
) -> None:
    """A handler that finds its steps on the way takes on another plan with each.

    Who reads the log finds the plan of each event. Of large ones only the last are there.
    """
    queue = make_queue()
    await queue.enqueue_task("ann", new_task(), task_id="t")
    (claim,) = (await queue.claim("one", 1, kinds=["fast"])).claims
    plans = [Plan(_long_steps(number * found, length)) for number in range(1, 31)]
    for number, plan in enumerate(plans, 1):
        fragment = b'"n":%d' % number
        assert await queue.report_progress("t", claim.token, fragment, number, plan=plan)
    there = {digest.decode() for digest in await redis.hkeys(queue.prefix + "plans")}
    assert there == {plan.digest for plan in plans[-kept:]}
    assert await queue.check_invariants() == []


def _long_steps(number: int, length: int) -> list[Step]:
    """Return steps whose names and titles have this length."""
    return [Step(f"{one:03}".ljust(length, "."), 1, "t" * length) for one in range(number)]
