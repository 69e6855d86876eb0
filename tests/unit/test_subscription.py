"""The states of a subscription, without a socket and without a store."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import RedisError

from tornado_rt import subscription as module
from tornado_rt.feed import Action, Opening
from tornado_rt.protocol import Bundle, Cursor, Message, MessageType, ResyncReason
from tornado_rt.subscription import TRANSITIONS, Subscription, SubscriptionState

TOPIC = "log"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_RETRY_SECONDS", (0.0, 0.0))


GAP_RETRY_SECONDS = module.GAP_RETRY_SECONDS


def test_gap_is_read_again_after_a_moment_and_not_by_all_at_once() -> None:
    first, last = GAP_RETRY_SECONDS
    assert 0.1 < first < last < 2


@attrs.define(eq=False)
class Log:
    """A feed of numbered messages. A read waits until the test answers it."""

    contiguous: bool = True
    topics: tuple[str, ...] = (TOPIC,)
    epoch: str = "e1"
    messages: list[Message] = attrs.field(factory=list)
    asked: list[asyncio.Future[None]] = attrs.field(factory=list)
    ended: bool = False
    current: tuple[Message, ...] = ()

    def append(self) -> Message:
        number = len(self.messages) + 1
        message = Message.of("progress", {"number": number}, str(Cursor(self.epoch, number)))
        self.messages.append(message)
        return message

    def show(self, message: Message) -> Message:
        return message

    async def read(self, after: Cursor | None) -> Opening:
        answered = asyncio.get_running_loop().create_future()
        self.asked.append(answered)
        # As a store does: what comes after it was asked is not in its answer.
        cursor, messages = Cursor(self.epoch, len(self.messages)), tuple(self.messages)
        await answered
        if after is None:
            return Opening({}, (), cursor, cursor, ended=self.ended)
        if after.epoch != self.epoch:
            begin = Cursor(self.epoch, 0)
            return Opening({}, messages, begin, cursor, ResyncReason.EPOCH, self.ended)
        news = messages[after.offset :]
        return Opening({}, news, after, cursor, ended=self.ended, current=self.current)

    def idle_seconds(self) -> float:
        return 0.0

    def actions(self) -> dict[str, Action]:
        return {}


@attrs.define(eq=False)
class Place:
    """The surroundings of one subscription: its topics, and where its messages go."""

    log: Log
    followed: set[str] = attrs.field(factory=set)
    forwarded: list[Message] = attrs.field(factory=list)
    ends: list[Any] = attrs.field(factory=list)
    jobs: list[asyncio.Task[None]] = attrs.field(factory=list)

    async def subscribe(self, topic: str, _: Subscription) -> None:
        self.followed.add(topic)

    def unsubscribe(self, topic: str, _: Subscription) -> None:
        self.followed.discard(topic)

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        self.jobs.append(asyncio.create_task(job, name=name))

    def forward(self, _: Subscription, message: Message) -> None:
        self.forwarded.extend(message.parts)

    def finished(self, subscription: Subscription) -> None:
        self.ends.append("finished")
        subscription.end()

    def failed(self, subscription: Subscription, error: Exception) -> None:
        self.ends.append(error)
        subscription.end()

    @property
    def offsets(self) -> list[int]:
        """The places in the log of what was forwarded."""
        return [one.cursor.offset for one in self.forwarded if one.cursor is not None]

    async def answer(self, error: Exception | None = None) -> None:
        """Answer the read that waits, if one does, and let what follows happen."""
        if self.log.asked:
            asked = self.log.asked.pop(0)
            asked.set_result(None) if error is None else asked.set_exception(error)
        await turns()

    async def open(self, after: Cursor | None = None) -> Subscription:
        subscription = Subscription(self, self.log, self)
        opening = asyncio.create_task(subscription.open(after))
        await turns()
        assert subscription.state is SubscriptionState.OPENING
        await self.answer()
        subscription.begin(await opening)
        return subscription


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_states_from_opening_to_the_end() -> None:
    place = Place(Log())
    subscription = Subscription(place, place.log, place)
    opening = asyncio.create_task(subscription.open(None))
    await turns()
    assert (subscription.state, place.followed) == (SubscriptionState.OPENING, {TOPIC})
    subscription.deliver(place.log.append())
    assert place.forwarded == []
    await place.answer()
    subscription.begin(await opening)
    assert (subscription.state, place.offsets) == (SubscriptionState.LIVE, [1])
    place.log.append()
    subscription.deliver(place.log.append())
    await turns()
    assert (subscription.state, place.offsets) == (SubscriptionState.FILLING, [1])
    await place.answer(RedisError("away"))
    assert place.offsets == [1]
    await place.answer()
    assert (subscription.state, place.offsets) == (SubscriptionState.LIVE, [1, 2, 3])
    subscription.end()
    subscription.deliver(place.log.append())
    assert (subscription.state, place.offsets, place.followed) == (
        SubscriptionState.ENDED,
        [1, 2, 3],
        set(),
    )


@pytest.mark.gen_test
async def test_newest_state_without_an_id_follows_a_gap_and_no_resume() -> None:
    place = Place(Log())
    place.log.current = (Message.of("unread_count", {"count": 7}),)
    place.log.append()
    subscription = await place.open(Cursor("e1", 0))
    assert [one.type for one in place.forwarded] == ["progress"]
    place.log.append()
    subscription.gap()
    await turns()
    await place.answer()
    assert [one.type for one in place.forwarded] == ["progress", "progress", "unread_count"]


@pytest.mark.gen_test
async def test_one_that_is_behind_waits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP_RETRY_SECONDS", (60.0, 60.0))
    place = Place(Log(contiguous=False))
    subscription = await place.open()
    place.log.append()
    subscription.gap()
    await turns()
    # Each message replaces the one before: what was held goes on, and what comes then.
    subscription.deliver(place.log.append())
    assert place.offsets == []
    await place.answer(RedisError("away"))
    assert (subscription.state, place.offsets) == (SubscriptionState.BEHIND, [2])
    subscription.deliver(place.log.append())
    assert place.offsets == [2, 3]
    # That the log has more is known.
    assert not subscription.is_behind(Cursor("e1", 5))
    subscription.end()
    place.jobs[0].cancel()
    await asyncio.gather(*place.jobs, return_exceptions=True)


@pytest.mark.gen_test
async def test_log_of_another_epoch_is_told_and_read_whole() -> None:
    place = Place(Log())
    subscription = await place.open()
    subscription.deliver(place.log.append())
    place.log.epoch, place.log.messages = "e2", []
    place.log.append()
    subscription.deliver(place.log.append())
    await turns()
    await place.answer()
    types = [one.type for one in place.forwarded]
    assert types == ["progress", MessageType.RESYNC, "progress", "progress"]
    assert subscription.state is SubscriptionState.LIVE


@pytest.mark.gen_test
async def test_feed_that_has_ended_or_fails_ends_it() -> None:
    place = Place(Log(ended=True))
    subscription = await place.open()
    assert (place.ends, subscription.state) == (["finished"], SubscriptionState.ENDED)
    place = Place(Log())
    subscription = await place.open()
    subscription.gap()
    await turns()
    await place.answer(ValueError("gone for good"))
    assert [str(one) for one in place.ends] == ["gone for good"]
    assert subscription.state is SubscriptionState.ENDED


@pytest.mark.gen_test
async def test_nothing_is_forwarded_after_the_carrier_has_ended_it() -> None:
    """It may end it at any message: in the middle of a gap that is filled, too."""
    place = Place(Log())

    class Once(Place):
        def forward(self, subscription: Subscription, message: Message) -> None:
            super().forward(subscription, message)
            subscription.end()

    once = Once(place.log)
    for _ in range(3):
        place.log.append()
    subscription = await once.open(Cursor("e1", 0))
    assert (subscription.state, once.offsets) == (SubscriptionState.ENDED, [1])


@pytest.mark.gen_test
async def test_one_that_ends_while_it_is_opened_follows_nothing() -> None:
    """Its client may leave between two topics."""
    place = Place(Log(topics=("log", "more")))
    subscription = Subscription(place, place.log, place)
    may_go_on = asyncio.Event()

    async def subscribe(topic: str, _: Subscription) -> None:
        place.followed.add(topic)
        await may_go_on.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Place, "subscribe", lambda _, topic, one: subscribe(topic, one))
        opening = asyncio.create_task(subscription.open(None))
        await turns()
        subscription.end()
        may_go_on.set()
        await turns()
    assert place.followed == set()
    await place.answer()
    subscription.begin(await opening)
    assert (subscription.state, place.forwarded) == (SubscriptionState.ENDED, [])


STEPS = ("publish", "lose", "repeat", "gap", "answer", "fail", "turn", "together")


def _steps() -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=40)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(_steps(), st.booleans(), st.integers(0, 3))
def test_each_message_comes_once_whatever_happens(
    steps: list[tuple[str, int]], contiguous: bool, before: int
) -> None:
    """A contiguous log gives every one, in order; another one the last, and none before another."""

    async def run() -> None:
        place = Place(Log(contiguous))
        for _ in range(before):
            place.log.append()
        subscription = await place.open(Cursor("e1", 0))
        for step, number in steps:
            await _do(place, subscription, step, number)
        subscription.gap()
        for _ in range(10):
            await turns()
            await place.answer()
        assert subscription.state is SubscriptionState.LIVE
        offsets = place.offsets
        assert offsets == sorted(set(offsets))
        count = len(place.log.messages)
        if contiguous:
            assert offsets == [*range(1, count + 1)]
        elif count:
            assert offsets[-1] == count
        subscription.end()

    asyncio.run(run())


async def _do(place: Place, subscription: Subscription, step: str, number: int) -> None:
    if step == "publish":
        subscription.deliver(place.log.append())
    elif step == "together":
        subscription.deliver(Bundle.join([place.log.append() for _ in range(number + 1)]))
    elif step == "lose":
        place.log.append()
    elif step == "repeat" and place.log.messages:
        subscription.deliver(place.log.messages[number % len(place.log.messages)])
    elif step == "gap":
        subscription.gap()
    elif step == "answer":
        await place.answer()
    elif step == "fail":
        await place.answer(RedisError("away"))
    else:
        await turns(number)


@pytest.fixture(scope="module", autouse=True)
def moves() -> Iterator[None]:
    """Note each change of a state in the tests here; the table has them all, and no other."""
    seen: set[tuple[SubscriptionState, SubscriptionState]] = set()
    plain = Subscription.__setattr__

    def noting(self: Subscription, name: str, value: object) -> None:
        before = getattr(self, "state", None)
        if name == "state" and before is not None and before is not value:
            seen.add((before, value))  # type: ignore[arg-type]
        plain(self, name, value)

    Subscription.__setattr__ = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        del Subscription.__setattr__
    table = {(begin, end) for begin, end, _ in TRANSITIONS}
    assert table == seen
