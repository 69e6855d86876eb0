"""Five priorities: before age, and within a bound on how often a task is passed over."""

import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Ack, Claim, Outcome, Priority, QueueService
from settings import QueueOrder
from tests.queueing import (
    KIND,
    claim,
    end,
    enqueue,
    expire_leases,
    give_up,
    read,
    register,
    several,
    started,
)

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
# At most this many younger tasks of a higher priority pass over a kind's oldest waiting task.
MOST_PASSED = 9
ORDERS = pytest.mark.parametrize("order", list(QueueOrder))


def test_there_are_five_from_the_highest_to_the_lowest() -> None:
    names = ["highest", "high", "normal", "low", "lowest"]
    assert [priority.value for priority in Priority] == names
    assert [priority.level for priority in Priority] == list(range(5))


@ORDERS
@pytest.mark.gen_test
async def test_priority_comes_before_age_and_age_within_it(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """Over all users, whether many are claimed at once or one after another."""
    queue = make_queue(order=order)
    for count in (1, 9, 30):
        ids: dict[Priority, list[str]] = {priority: [] for priority in Priority}
        for _ in range(2):
            for priority in reversed(Priority):
                ids[priority].append(await enqueue(queue, priority=priority))
        ran: list[str] = []
        while claims := await claim(queue, count):
            ran += [owned.task.task_id for owned in claims]
            await end(queue, *claims)
        # Fewer than may pass over the oldest.
        assert ran == [task_id for priority in Priority for task_id in ids[priority]]


@ORDERS
@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.ERROR])
@pytest.mark.gen_test
async def test_task_given_back_with_a_claim_comes_before_lower_priorities(
    make_queue: MakeQueue, order: QueueOrder, outcome: Outcome
) -> None:
    """Also when nothing else waits in its line."""
    queue = make_queue(order=order)
    high = await enqueue(queue, priority=Priority.HIGH)
    (owned,) = await claim(queue, 1)
    await enqueue(queue, priority=Priority.LOW)
    failed = Ack(high, owned.token, outcome, error="busy")
    claimed = await queue.claim("w1", 1, [failed], kinds=[KIND])
    assert claimed.owned == [True]
    assert [(one.task.task_id, one.task.attempt) for one in claimed.claims] == [(high, 2)]


@ORDERS
@pytest.mark.gen_test
async def test_priority_holds_between_kinds(make_queue: MakeQueue, order: QueueOrder) -> None:
    queue = make_queue(order=order)
    low = await enqueue(queue, priority=Priority.LOW)
    other = await enqueue(queue, kind="other")
    high = await enqueue(queue, priority=Priority.HIGH, user="b")
    another = await enqueue(queue, kind="other", priority=Priority.HIGHEST)
    assert await started(queue, 9, KIND, "other") == [another, high, other, low]


@pytest.mark.gen_test
async def test_held_back_task_of_a_high_priority_blocks_none_of_a_low_one(
    make_queue: MakeQueue,
) -> None:
    """Of another user, without its key, of another kind."""
    queue = make_queue(user_limit=1)
    await register(queue, key_limit=1)
    await register(queue, "full", limit=1)
    for user, more in {"a": {}, "k": {"key": "x"}, "f": {"kind": "full"}}.items():
        await enqueue(queue, user, **more)
    assert len(await claim(queue, 9, KIND, "full")) == 3
    best: dict[str, Any] = {"priority": Priority.HIGHEST}
    held = [
        await enqueue(queue, "a", **best),
        await enqueue(queue, "b", key="x", **best),
        await enqueue(queue, "c", kind="full", **best),
    ]
    lows = [await enqueue(queue, user, priority=Priority.LOWEST) for user in "bcd"]
    assert await started(queue, 9, KIND, "full") == lows
    assert [(await read(queue, one)).status for one in held] == ["queued"] * 3


@pytest.mark.gen_test
async def test_position_counts_those_of_a_higher_priority_first(make_queue: MakeQueue) -> None:
    """Among the tasks of its kind; as it is told at submission, in the snapshot, and later."""
    queue = make_queue()
    await enqueue(queue, kind="other", priority=Priority.HIGHEST)
    normal = [await enqueue(queue, user) for user in "ab"]
    low = await enqueue(queue, priority=Priority.LOW)
    high = await enqueue(queue, priority=Priority.HIGH)

    async def positions() -> list[int | None]:
        return [(await read(queue, one)).position for one in (high, *normal, low)]

    assert await positions() == [1, 2, 3, 4]
    assert b'"position":4' in (await read(queue, low)).snapshot
    told = await queue.enqueue_task("c", several("A", priority=Priority.HIGH)[0])
    assert told.position == 2
    assert await positions() == [1, 3, 4, 5]
    assert await started(queue, 2) == [high, told.task_id]
    assert await positions() == [None, 1, 2, 3]


@pytest.mark.gen_test
async def test_task_keeps_its_priority_and_its_place_in_it(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """Handed back, given up, lost, or run again."""
    queue = make_queue()
    high, low = Priority.HIGH, Priority.LOW
    ids = [await enqueue(queue, priority=priority) for priority in (low, high, low, high)]
    wanted = [ids[1], ids[3], ids[0], ids[2]]
    claims = await claim(queue)
    assert [owned.task.task_id for owned in claims] == wanted
    for owned in claims:
        await queue.release_task(owned.task.task_id, owned.token)
    claims = await claim(queue)
    assert [owned.task.task_id for owned in claims] == wanted
    for owned in reversed(claims):
        await give_up(queue, owned)
    assert await started(queue) == wanted
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    assert await started(queue) == wanted
    for task_id in ids:
        await queue.cancel_task(task_id)
        assert (await queue.rerun_task(task_id)).priority in (low, high)
    assert await started(queue) == wanted


@pytest.mark.gen_test
async def test_tasks_of_a_batch_have_their_priority(make_queue: MakeQueue) -> None:
    queue = make_queue()
    low = await queue.create_batch("a", several("A", "B", priority=Priority.LOWEST))
    high = await queue.create_batch("a", several("A", "B", priority=Priority.HIGHEST))
    assert await started(queue) == [*high.task_ids, *low.task_ids]
    assert (await read(queue, low.task_ids[0])).priority == Priority.LOWEST


# The bound on starvation


@ORDERS
@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.gen_test
async def test_oldest_task_is_passed_over_nine_times_and_no_more(
    make_queue: MakeQueue, order: QueueOrder, count: int
) -> None:
    """However it is claimed, and as often again as there is an oldest one.

    In fair order turns are its age: the one that had its turn before them passes over nobody.
    """
    queue = make_queue(order=order)
    await queue.register_kinds()
    low = [await enqueue(queue, priority=Priority.LOWEST) for _ in range(3)]
    for _ in range(40):
        await enqueue(queue, priority=Priority.HIGHEST)
    ran: list[str] = []
    while claims := await claim(queue, count):
        ran += [owned.task.task_id for owned in claims]
        await end(queue, *claims)
    places = {QueueOrder.FIFO: [9, 19, 29], QueueOrder.FAIR: [9, 20, 31]}
    assert [ran.index(task_id) for task_id in low] == places[order]


@ORDERS
@pytest.mark.gen_test
async def test_task_that_was_not_passed_over_does_not_come_first(
    make_queue: MakeQueue, redis: Redis, order: QueueOrder
) -> None:
    """Though the one before it was, nine times, until nothing else waited."""
    queue = make_queue(order=order)
    for _ in range(2):
        low = await enqueue(queue, priority=Priority.LOW)
        high = [await enqueue(queue, priority=Priority.HIGH) for _ in range(MOST_PASSED)]
        assert await started(queue, MOST_PASSED) == high
        assert await started(queue) == [low]
    assert not await redis.exists("{rtq}:passed")


@pytest.mark.gen_test
async def test_oldest_task_is_passed_over_by_other_kinds_no_more_often(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue()
    low = await enqueue(queue, priority=Priority.LOW)
    for _ in range(20):
        await enqueue(queue, kind="other", priority=Priority.HIGH)
    ran = await started(queue, 30, KIND, "other")
    assert ran.index(low) == MOST_PASSED


@attrs.define
class Passed:
    """The number of times that the oldest waiting task of each kind was passed over."""

    waiting: dict[str, tuple[str, Priority]] = attrs.field(factory=dict)
    times: dict[str, int] = attrs.field(factory=dict)
    most: int = 0

    def start(self, task_id: str) -> None:
        """Note that a task has started; the ids are in the order submitted."""
        kind, priority = self.waiting.pop(task_id)
        own = [(one, level) for one, (of, level) in self.waiting.items() if of == kind]
        if own and int(own[0][0]) < int(task_id) and own[0][1].level > priority.level:
            oldest = own[0][0]
            self.times[oldest] = self.times.get(oldest, 0) + 1
            self.most = max(self.most, self.times[oldest])


@pytest.mark.gen_test
async def test_bound_holds_whatever_is_submitted_and_claimed(make_queue: MakeQueue) -> None:
    """In order of submission, with several kinds that several workers take, at random."""
    rng, queue = random.Random(5), make_queue()
    kinds = {"one": ["a"], "two": ["a", "b"], "three": ["b"]}
    passed, made = Passed(), 0
    for _ in range(800):
        for _ in range(rng.randint(0, 2)):
            made += 1
            priority = rng.choice([*Priority, Priority.HIGHEST, Priority.HIGHEST])
            kind = rng.choice("ab")
            user, more = rng.choice("uvw"), {"task_id": str(made)}
            await enqueue(queue, user, kind=kind, priority=priority, **more)
            passed.waiting[str(made)] = (kind, priority)
        for task_id in await started(queue, rng.randint(0, 2), *kinds[rng.choice(list(kinds))]):
            passed.start(task_id)
    assert passed.most == MOST_PASSED
    assert made > 500


@ORDERS
@pytest.mark.parametrize("limits", [{"user_limit": 1}, {"key_limit": 1}])
@pytest.mark.gen_test
async def test_bound_holds_for_what_a_limit_holds_back_at_times(
    make_queue: MakeQueue, order: QueueOrder, limits: dict[str, int]
) -> None:
    """It could start each time that one of a higher priority does, and has the place in between."""
    queue = make_queue(order=order)
    await register(queue, **limits)
    low = await enqueue(queue, "u", priority=Priority.LOW, key="x")
    for _ in range(3):
        await enqueue(queue, "u", priority=Priority.HIGH, key="x")
        await enqueue(queue, "v")
    running: list[Claim] = []
    passed = 0
    while True:
        for owned in await claim(queue, 2 - len(running)):
            if owned.task.task_id == low:
                assert passed <= MOST_PASSED
                return
            more = {"priority": Priority.HIGH, "key": "x"} if owned.task.user_id == "u" else {}
            passed += bool(more)
            assert passed <= MOST_PASSED
            await enqueue(queue, owned.task.user_id, **more)
            running.append(owned)
        await end(queue, running.pop(0))


@pytest.mark.gen_test
@pytest.mark.parametrize("others", [10, 17, 30])
async def test_bound_holds_behind_many_lanes_of_one_key(make_queue: MakeQueue, others: int) -> None:
    """More than return at once when the key is free."""
    queue = make_queue()
    await register(queue, key_limit=1)
    low = await enqueue(queue, "low", priority=Priority.LOW, key="x")
    for number in range(others):
        await enqueue(queue, f"u{number}", priority=Priority.HIGH, key="x")
    for _ in range(MOST_PASSED + 1):
        [owned] = await claim(queue, 5)
        if owned.task.task_id == low:
            return
        await enqueue(queue, owned.task.user_id, priority=Priority.HIGH, key="x")
        await end(queue, owned)
    raise AssertionError("it was passed over more than nine times")


@pytest.mark.gen_test
@pytest.mark.parametrize("users", [3, 20])
async def test_fair_order_goes_in_rounds_also_under_one_limited_key(
    make_queue: MakeQueue, users: int
) -> None:
    """The user who came first has the most tasks before the others', and starts no more of them."""
    queue = make_queue(order=QueueOrder.FAIR)
    await register(queue, key_limit=1)
    names = [f"u{number:02}" for number in range(users)]
    for name in names:
        for _ in range(3):
            await enqueue(queue, name, key="x")
    ran: list[str] = []
    while claims := await claim(queue, 2):
        ran += [owned.task.user_id for owned in claims]
        await end(queue, *claims)
    assert [sorted(ran[at : at + users]) for at in range(0, len(ran), users)] == [names] * 3
