"""Deliveries over a real Redis, with handlers that fail as the test says."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import attrs
import pytest
from pymongo.errors import AutoReconnect
from redis.asyncio import Redis

from services.deliveries import (
    Deliveries,
    DeliveryKind,
    DeliveryNotKept,
    DeliveryUnderWay,
    GivenUp,
)
from services.deliveries.lanes import lane_of
from services.deliveries.running import RETRY_SECONDS
from services.queue import QueueFull
from tests.receiving import delivering, make_deliveries
from tests.waiting import until
from tornado_rt.work import Kind, Retry, Run, TaskError

ATTEMPTS = len(RETRY_SECONDS) + 1


@attrs.frozen(kw_only=True)
class Note:
    """The parameters of a delivery of the tests."""

    text: str


@attrs.define
class Recorder:
    """A kind of delivery that keeps what came; what `faults` has of a text is raised, in order."""

    faults: dict[str, list[Exception]] = attrs.field(factory=dict)
    tried: list[str] = attrs.field(factory=list)
    arrived: list[str] = attrs.field(factory=list)
    given_up: list[GivenUp] = attrs.field(factory=list)
    # Those that begin with "slow" wait for this.
    open: asyncio.Event = attrs.field(factory=asyncio.Event)
    running: Counter[str] = attrs.field(factory=Counter)

    def kind(self, name: str = "note", **options: object) -> DeliveryKind:
        kind = Kind(name, Note, **options)

        @kind.handler
        async def deliver(note: Note, run: Run) -> None:
            self.tried.append(note.text)
            if self.faults.get(note.text):
                raise self.faults[note.text].pop(0)
            if note.text.startswith("slow"):
                self.running[run.user_id] += 1
                await self.open.wait()
            self.arrived.append(note.text)

        async def gave_up(given_up: GivenUp) -> None:
            self.given_up.append(given_up)

        return DeliveryKind(kind, gave_up)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def deliveries(redis: Redis, recorder: Recorder) -> Deliveries:
    made = make_deliveries(redis)
    made.register(recorder.kind(key_limit=2))
    return made


async def add_all(deliveries: Deliveries, texts: Sequence[str], user: str = "alice") -> None:
    for text in texts:
        await deliveries.add("note", user, {"text": text})


@pytest.mark.gen_test
async def test_delivery_is_tried_for_a_day_and_then_given_up(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    """Its handler may raise anything; the schedule is 23.7 hours."""
    assert 23 * 3600 < sum(RETRY_SECONDS) < 25 * 3600
    faults: list[Exception] = [Retry("no answer"), RuntimeError("broken")]
    recorder.faults["lost"] = faults * ATTEMPTS
    began = time.time()
    await deliveries.add("note", "alice", {"text": "lost"}, key="k")
    async with delivering(redis, deliveries, scale=1e-6):
        await until(lambda: recorder.given_up)
    [told] = recorder.given_up
    assert recorder.tried == ["lost"] * ATTEMPTS
    assert (told.user_id, told.params, told.exhausted) == ("alice", {"text": "lost"}, True)
    assert told.reason == "no answer"
    assert began - 1 <= told.since <= time.time()
    assert await redis.keys("*lane_*") == [b"{rtq-deliveries}:lane_number"]
    assert await deliveries.queue.check_invariants() == []


@pytest.mark.gen_test
async def test_delivery_that_its_handler_gives_up_is_tried_once(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    recorder.faults["gone"] = [TaskError("the receiver is gone")]
    await add_all(deliveries, ["gone"])
    async with delivering(redis, deliveries):
        await until(lambda: recorder.given_up)
    assert recorder.tried == ["gone"]
    assert [(one.reason, one.exhausted) for one in recorder.given_up] == [
        ("the receiver is gone", False)
    ]


@pytest.mark.gen_test
async def test_wait_that_a_handler_asks_for_is_kept(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    """Where it is longer than the schedule's own."""
    recorder.faults["later"] = [Retry("busy", 0.5)]
    await add_all(deliveries, ["later"])
    async with delivering(redis, deliveries, scale=0.0):
        await until(lambda: recorder.tried)
        began = time.monotonic()
        await until(lambda: recorder.arrived)
    assert time.monotonic() - began > 0.4


@pytest.mark.gen_test
async def test_store_that_is_away_costs_no_attempt(
    redis: Redis,
    deliveries: Deliveries,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.deliveries.running.STORE_SECONDS", 0.001)
    recorder.faults["patient"] = [AutoReconnect("away") for _ in range(3 * ATTEMPTS)]
    await add_all(deliveries, ["patient"])
    async with delivering(redis, deliveries):
        await until(lambda: recorder.arrived, equal=["patient"])
    assert recorder.given_up == []


@pytest.mark.gen_test
async def test_deliveries_of_a_key_arrive_in_their_order(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    """However often the first fails; those of other keys and users do not wait for it."""
    recorder.faults["a1"] = [Retry() for _ in range(5)]
    for text in ("a1", "a2", "a3", "a4"):
        await deliveries.add("note", "alice", {"text": text}, key="a")
    await deliveries.add("note", "alice", {"text": "b1"}, key="b")
    await deliveries.add("note", "bob", {"text": "c1"}, key="a")
    async with delivering(redis, deliveries):
        await until(lambda: len(recorder.arrived) == 6)
    assert set(recorder.arrived[:2]) == {"b1", "c1"}
    assert recorder.arrived[2:] == ["a1", "a2", "a3", "a4"]
    assert Counter(recorder.tried)["a2"] == 1


@pytest.mark.gen_test
async def test_delivery_that_is_given_up_holds_up_no_later_one(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    recorder.faults["first"] = [Retry() for _ in range(ATTEMPTS)]
    for text in ("first", "second"):
        await deliveries.add("note", "alice", {"text": text}, key="a")
    async with delivering(redis, deliveries, scale=1e-6):
        await until(lambda: recorder.arrived, equal=["second"])
    assert len(recorder.given_up) == 1


@pytest.mark.gen_test
async def test_place_without_a_delivery_holds_up_nobody(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    """The process that took it was killed before the delivery was added."""
    await deliveries.lanes.join(lane_of("note", "alice", "a"), "nobody")
    await deliveries.add("note", "alice", {"text": "mine"}, key="a")
    async with delivering(redis, deliveries):
        await until(lambda: recorder.arrived, equal=["mine"])


@pytest.mark.gen_test
async def test_delivery_that_is_added_again_is_one(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    """While it waits, and when it has arrived; the next of its key is not held up."""

    async def add(text: str, unique: str) -> None:
        await deliveries.add("note", "alice", {"text": text}, key="a", unique=unique)

    await add("one", "u1")
    await add("one", "u1")
    async with delivering(redis, deliveries):
        await until(lambda: recorder.arrived)
        await add("one", "u1")
        await add("two", "u2")
        await until(lambda: len(recorder.arrived) == 2)
    assert recorder.tried == ["one", "two"]


@pytest.mark.gen_test
async def test_delivery_is_repeated_by_hand_when_it_has_ended(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    recorder.faults["gone"] = [TaskError("gone")]
    await deliveries.add("note", "alice", {"text": "gone"}, unique="u")
    with pytest.raises(DeliveryUnderWay):
        await deliveries.again("note", "u")
    with pytest.raises(DeliveryNotKept):
        await deliveries.again("note", "another")
    async with delivering(redis, deliveries):
        await until(lambda: recorder.given_up)

        async def repeated() -> bool:
            try:
                await deliveries.again("note", "u")
            except DeliveryUnderWay:
                return False
            return True

        await until(repeated)
        await until(lambda: recorder.arrived, equal=["gone"])


@pytest.mark.gen_test
async def test_waiting_deliveries_of_a_user_are_bounded(redis: Redis, recorder: Recorder) -> None:
    """One that is refused leaves no place behind."""
    deliveries = make_deliveries(redis, max_waiting_per_user=2)
    deliveries.register(recorder.kind())
    await add_all(deliveries, ["1", "2"])
    with pytest.raises(QueueFull):
        await deliveries.add("note", "alice", {"text": "3"}, key="k")
    assert await deliveries.lanes.first(lane_of("note", "alice", "k")) == ""
    await add_all(deliveries, ["4"], user="bob")


@pytest.mark.gen_test
@pytest.mark.parametrize(("host", "most"), [("h", 2), ("", 4)])
async def test_slow_receiver_holds_up_nobody_else(
    redis: Redis, deliveries: Deliveries, recorder: Recorder, host: str, most: int
) -> None:
    """Two of a host are under way at once, four of a user."""
    for number in range(50):
        await deliveries.add("note", "mallory", {"text": f"slow{number}"}, host=host)
    async with delivering(redis, deliveries, concurrency=8):
        await until(lambda: recorder.running["mallory"] == most)
        for number in range(30):
            await deliveries.add("note", "alice", {"text": f"quick{number}"}, host="other")
        await until(lambda: len(recorder.arrived) == 30)
        assert recorder.running["mallory"] == most
        recorder.open.set()
        await until(lambda: len(recorder.arrived) == 80)


@pytest.mark.gen_test
async def test_attempt_that_takes_too_long_is_a_failure(redis: Redis, recorder: Recorder) -> None:
    deliveries = make_deliveries(redis)
    deliveries.register(recorder.kind(timeout=0.05))
    await add_all(deliveries, ["slow"])
    async with delivering(redis, deliveries):
        await until(lambda: len(recorder.tried) > 1)
        recorder.open.set()
        await until(lambda: recorder.arrived, equal=["slow"])


@pytest.mark.gen_test
async def test_delivery_that_was_cut_off_is_attempted_by_the_next_process(
    redis: Redis, deliveries: Deliveries, recorder: Recorder
) -> None:
    await add_all(deliveries, ["slow"])
    async with delivering(redis, deliveries):
        await until(lambda: recorder.running["alice"])
    assert recorder.arrived == []
    recorder.open.set()
    async with delivering(redis, deliveries):
        await until(lambda: recorder.arrived, equal=["slow"])
    assert recorder.given_up == []


@pytest.mark.gen_test
async def test_plain_function_delivers_in_a_thread(redis: Redis) -> None:
    kept: list[str] = []
    kind = Kind("plain", Note)

    @kind.handler
    def deliver(note: Note, run: object) -> None:
        kept.append(note.text)

    deliveries = make_deliveries(redis)
    deliveries.register(DeliveryKind(kind))
    await deliveries.add("plain", "alice", {"text": "a"}, delay=0.2)
    async with delivering(redis, deliveries):
        await until(lambda: kept, equal=["a"])
