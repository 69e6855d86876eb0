"""Limits of users, kinds and keys, and rates: exact, all at once, and never in each other's way."""

import asyncio
import collections
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Claim, KindEntry, KindLimits, Priority, QueueService, Task, TaskState
from settings import QueueOrder
from tests.queueing import (
    KIND,
    claim,
    end,
    enqueue,
    expire_leases,
    give_up,
    new,
    read,
    register,
    several,
    started,
)
from tests.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("invariants")]

MakeQueue = Callable[..., QueueService]
FINE_SECONDS = 0.001
ORDERS = pytest.mark.parametrize("order", list(QueueOrder))


# All limits at once, over several workers

KINDS = {
    "fast": KindLimits(limit=6, user_limit=2, key_limit=2),
    "slow": KindLimits(limit=4, key_limit=1),
    "free": KindLimits(user_limit=2),
}
USER_LIMIT, GLOBAL_LIMIT = 3, 11
COUNT_RUNNING = """
local running = {}
for i, id in ipairs(redis.call('ZRANGE', KEYS[1] .. 'processing', 0, -1)) do
  local made = cmsgpack.unpack(redis.call('HGET', KEYS[1] .. 'task:' .. id, 'made'))
  running[i] = {made[5], made[1], made[7]}
end
return cjson.encode(running)
"""

# Kind, user and key of a task.
Place = tuple[str, str, str]


@attrs.define
class Use:
    """The used part of each limit."""

    of: collections.Counter[tuple[str, ...]] = attrs.field(factory=collections.Counter)

    @classmethod
    def by(cls, running: list[Place]) -> "Use":
        use = cls()
        for place in running:
            use.of.update(cls._names(place))
        return use

    @staticmethod
    def _names(place: Place) -> list[tuple[str, ...]]:
        kind, user, key = place
        names = [("all",), ("user", user), ("kind", kind), ("kind_user", kind, user)]
        return names + ([("key", kind, key)] if key else [])

    @staticmethod
    def limit(name: tuple[str, ...]) -> int:
        if name[0] in ("all", "user"):
            return {"all": GLOBAL_LIMIT, "user": USER_LIMIT}[name[0]]
        limits = KINDS[name[1]]
        of = {"kind": limits.limit, "kind_user": limits.user_limit, "key": limits.key_limit}
        return of[name[0]]

    def exceeded(self) -> list[tuple[str, ...]]:
        return [name for name, used in self.of.items() if 0 < self.limit(name) < used]

    def has_room(self, place: Place) -> bool:
        return not any(0 < self.limit(name) <= self.of[name] for name in self._names(place))


async def running_now(redis: Redis) -> list[Place]:
    """Return what runs, read in one moment."""
    told = json.loads(await redis.eval(COUNT_RUNNING, 1, "{rtq}:"))
    return [(kind, user, key) for kind, user, key in told]


async def _work(
    queue: QueueService, redis: Redis, name: str, seed: int, rounds: int, uses: list[Use]
) -> None:
    """Claim and end at random, and look each time what runs in all."""
    rng, mine = random.Random(seed), list[Claim]()
    for _ in range(rounds):
        kinds = rng.sample(list(KINDS), rng.randint(1, 3))
        mine += (await queue.claim(name, rng.randint(1, 8), kinds=kinds)).claims
        uses.append(Use.by(await running_now(redis)))
        rng.shuffle(mine)
        for owned in [mine.pop() for _ in range(rng.randint(0, len(mine)))]:
            if rng.random() < 0.2:
                await give_up(queue, owned)
            else:
                await end(queue, owned)


@ORDERS
@pytest.mark.gen_test
async def test_all_limits_hold_at_once_exactly_over_several_workers(
    make_queue: MakeQueue, redis: Redis, order: QueueOrder
) -> None:
    """Never one more, whichever workers claim at the same moment; and none less than may run."""
    rng = random.Random(7)
    bounds = {"user_limit": USER_LIMIT, "global_limit": GLOBAL_LIMIT, "order": order}
    queues = [make_queue(**bounds) for _ in range(4)]
    await queues[0].register_kinds([KindEntry(kind=kind, limits=KINDS[kind]) for kind in KINDS])
    waiting: dict[str, Place] = {}
    for _ in range(600):
        place = (rng.choice(list(KINDS)), rng.choice("abcde"), rng.choice(["", "x", "y", "z"]))
        task_id = await enqueue(queues[0], place[1], kind=place[0], key=place[2], max_attempts=9)
        waiting[task_id] = place
    uses: list[Use] = []
    await asyncio.gather(
        *(_work(queue, redis, f"w{n}", n, 40, uses) for n, queue in enumerate(queues))
    )
    assert [use.exceeded() for use in uses if use.exceeded()] == []
    reached = {name[0] for use in uses for name, used in use.of.items() if used == use.limit(name)}
    assert reached == {"all", "user", "kind", "kind_user", "key"}
    await asyncio.gather(*(queue.claim("w", 20, kinds=list(KINDS)) for queue in queues))
    use = Use.by(await running_now(redis))
    assert use.exceeded() == []
    still = [(await read(queues[0], task_id)).status == "queued" for task_id in waiting]
    left = [place for place, queued in zip(waiting.values(), still, strict=True) if queued]
    assert left
    assert [place for place in left if use.has_room(place)] == []


# A task that one limit holds back blocks nobody else

HELD: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # Bounds over all, limits of the kind, what is held back, what is not.
    "kind": ({}, {"limit": 1}, {}, {"kind": "other"}),
    "kind and user": ({}, {"user_limit": 1}, {}, {"user": "b"}),
    "kind and user, another kind": ({}, {"user_limit": 1}, {}, {"kind": "other"}),
    "user": ({"user_limit": 1}, {}, {}, {"user": "b"}),
    "key": ({}, {"key_limit": 1}, {"key": "x"}, {"key": "y"}),
    "key, another user": ({}, {"key_limit": 1}, {"key": "x"}, {"user": "b", "key": "y"}),
    "key, one without": ({}, {"key_limit": 1}, {"key": "x"}, {}),
    "key, another kind": ({}, {"key_limit": 1}, {"key": "x"}, {"kind": "other", "key": "x"}),
    "rate": ({}, {"rate": "1/h"}, {}, {"kind": "other"}),
    "key rate": ({}, {"key_rate": "1/h"}, {"key": "x"}, {"key": "y"}),
    "key rate, one without": ({}, {"key_rate": "1/h"}, {"key": "x"}, {}),
}


@ORDERS
@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOWEST])
@pytest.mark.parametrize("held", HELD)
@pytest.mark.gen_test
async def test_what_is_held_back_blocks_no_other(
    make_queue: MakeQueue, held: str, order: QueueOrder, priority: Priority
) -> None:
    """However many wait before it, also of a higher priority: it starts at the next claim."""
    bounds, limits, blocked, other = HELD[held]
    queue = make_queue(order=order, **bounds)
    await register(queue, **limits)
    first = await enqueue(queue, **blocked)
    assert await started(queue) == [first]
    await queue.create_batch("a", several(*"A" * 40, **blocked))
    assert await started(queue, 5) == []
    for number in range(2):
        more = {**other, "key": f"{other['key']}{number}"} if "key" in other else other
        free = await enqueue(queue, **{"user": "a", "priority": priority, **more})
        assert await started(queue, 1, KIND, "other") == [free]
        await queue.cancel_task(free)
    assert await started(queue, 50, KIND, "other") == []
    assert (await queue.stats()).queued == 40


@ORDERS
@pytest.mark.gen_test
async def test_key_that_many_users_share_runs_them_in_the_order_submitted(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """More of them than a script lets in at once; one at a time, to the last."""
    queue = make_queue(order=order)
    await register(queue, key_limit=1)
    ids = [await enqueue(queue, f"u{number}", key="x") for number in range(30)]
    ran = []
    while claims := await claim(queue):
        assert len(claims) == 1
        assert await claim(queue) == []
        ran.append(claims[0].task.task_id)
        await end(queue, *claims)
    assert ran == ids


@ORDERS
@pytest.mark.gen_test
async def test_all_that_a_key_held_back_start_when_it_holds_back_no_more(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """More than a script lets in at once; nothing has to end for the others."""
    queue = make_queue(order=order)
    await register(queue, key_limit=1)
    ids = [await enqueue(queue, f"u{number}", key="x") for number in range(30)]
    assert await started(queue, 50) == ids[:1]
    await queue.set_limits(KIND, {"key_limit": 0})
    ran: list[str] = []
    while True:
        claimed = await queue.claim("w", 50, kinds=[KIND])
        ran += [owned.task.task_id for owned in claimed.claims]
        if claimed.again_in is None:
            break
        assert claimed.again_in == 0
    assert ran == ids[1:]


@pytest.mark.gen_test
async def test_what_a_key_holds_back_takes_no_turn_for_what_is_behind_it(
    make_queue: MakeQueue,
) -> None:
    """In order of submission a user's next one starts in its own place."""
    queue = make_queue()
    await register(queue, key_limit=1)
    running = await enqueue(queue, "a", key="x")
    await enqueue(queue, "a", key="x")
    others = [await enqueue(queue, user) for user in "bacab"]
    assert await started(queue, 4) == [running, *others[:3]]
    assert await started(queue, 4) == others[3:]


@pytest.mark.gen_test
async def test_key_counts_for_its_kind_alone(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await register(queue, key_limit=1)
    await register(queue, "other", key_limit=2)
    ids = [await enqueue(queue, kind=kind, key="x") for kind in (KIND, "other") for _ in range(3)]
    assert await started(queue, 9, KIND, "other") == [ids[0], *ids[3:5]]


@pytest.mark.gen_test
async def test_limits_are_free_again_whatever_ends_an_attempt(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """Done, failed, given up, handed back, cancelled, lost."""
    queue = make_queue(user_limit=1)
    await register(queue, limit=1, user_limit=1, key_limit=1)

    async def lose(_: Claim) -> None:
        await expire_leases(redis)
        assert await queue.cleanup_expired_tasks() == 1

    ends: list[Callable[[Claim], Any]] = [
        lambda owned: end(queue, owned),
        lambda owned: end(queue, owned, success=False),
        lambda owned: give_up(queue, owned, delay=60),
        lambda owned: queue.release_task(owned.task.task_id, owned.token),
        lambda owned: queue.cancel_task(owned.task.task_id),
        lose,
    ]
    for ending in ends:
        await enqueue(queue, key="x")
        [owned] = await claim(queue)
        await enqueue(queue, key="x")
        assert await claim(queue) == []
        await ending(owned)
        [following] = await claim(queue)
        await end(queue, following)
        await queue.cancel_task(owned.task.task_id)
        for state in (TaskState.QUEUED, TaskState.DELAYED):
            await queue.purge(state)
    assert (await queue.stats()).processing == 0


@pytest.mark.gen_test
async def test_raised_limits_hold_at_the_next_claim(make_queue: MakeQueue) -> None:
    """Of user, kind, kind and user, key, and all; none starts while more run than may."""
    queue = make_queue(user_limit=1, global_limit=1)
    await register(queue, limit=1, user_limit=1, key_limit=1)
    ids = [await enqueue(queue, key="x") for _ in range(4)]
    [owned] = await claim(queue)
    raises: list[tuple[str, Mapping[str, Any]]] = [
        ("", {"user_limit": 3, "global_limit": 3}),
        (KIND, {"limit": 3}),
        (KIND, {"user_limit": 3}),
    ]
    for kind, changes in raises:
        await queue.set_limits(kind, changes)
        assert await claim(queue) == []
    await queue.set_limits(KIND, {"key_limit": 3})
    assert await started(queue) == ids[1:3]
    await queue.set_limits(KIND, {"limit": 2})
    await end(queue, owned)
    assert await claim(queue) == []
    await queue.cancel_task(ids[1])
    assert await started(queue) == ids[3:]


# Rates


async def start_all(queue: QueueService, number: int, *kinds: str) -> list[Task]:
    """Start this many tasks, each as soon as the queue says that more may; end none."""
    found: list[Task] = []
    while len(found) < number:
        asked_at = time.monotonic()
        claimed = await queue.claim("w", number, kinds=kinds or [KIND])
        found += [owned.task for owned in claimed.claims]
        if len(found) < number:
            assert claimed.again_in is not None
            more = (await queue.claim("w", number, kinds=kinds or [KIND])).claims
            if time.monotonic() < asked_at + claimed.again_in:
                assert more == []
            found += [owned.task for owned in more]
            await asyncio.sleep(claimed.again_in)
    return found


def fits(tasks: list[Task], count: int, seconds: float) -> bool:
    """Say whether a bucket of `count` that fills in `seconds` has let all of these start."""
    at = sorted(task.started_at or 0.0 for task in tasks)
    return all(
        last - first + 1 <= count * (1 + (at[last] - at[first] + FINE_SECONDS) / seconds)
        for last in range(len(at))
        for first in range(last + 1)
    )


@ORDERS
@pytest.mark.gen_test
async def test_rate_lets_start_what_its_bucket_holds_and_as_much_as_it_holds(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """At once as many as the rate names, then each at its time; `again_in` says when."""
    queue = make_queue(order=order)
    await register(queue, rate="10/1s")
    await queue.create_batch("a", several(*"A" * 25))
    first = await queue.claim("w", 25, kinds=[KIND])
    assert len(first.claims) == 10
    assert first.again_in == pytest.approx(0.1, abs=0.02)
    tasks = [owned.task for owned in first.claims] + await start_all(queue, 15)
    assert fits(tasks, 10, 1.0)
    at = [task.started_at or 0.0 for task in tasks]
    # 15 tokens more come in 1.5 s; a claim that is late finds those of its delay too.
    assert max(at) - min(at) >= 1.5 - FINE_SECONDS
    assert not fits(tasks, 9, 1.0)


@pytest.mark.gen_test
async def test_bucket_is_full_again_after_its_time(make_queue: MakeQueue, redis: Redis) -> None:
    """And holds no more than it did."""
    queue = make_queue()
    await register(queue, rate="5/1s")
    await queue.create_batch("a", several(*"A" * 20))
    assert len(await claim(queue, 20)) == 5
    full_at = float(await redis.zscore("{rtq}:buckets", KIND) or 0) / 1e6

    async def is_past(moment: float) -> bool:
        seconds, micros = await redis.time()
        return seconds + micros / 1e6 > moment

    await until(lambda: is_past(full_at + 0.5))
    await queue.keep_up()
    assert await redis.zscore("{rtq}:buckets", KIND) is None
    assert len(await claim(queue, 20)) == 5


@ORDERS
@pytest.mark.gen_test
async def test_rate_of_a_key_is_each_keys_own(make_queue: MakeQueue, order: QueueOrder) -> None:
    queue = make_queue(order=order)
    await register(queue, key_rate="4/1s")
    for key in "xy":
        await queue.create_batch("a", several(*"A" * 9, key=key))
    free = [await enqueue(queue, "b") for _ in range(9)]
    first = await queue.claim("w", 30, kinds=[KIND])
    by_key = collections.Counter(
        [(await read(queue, owned.task.task_id)).key for owned in first.claims]
    )
    assert by_key == {"x": 4, "y": 4, "": 9}
    assert set(free) <= {owned.task.task_id for owned in first.claims}
    assert first.again_in == pytest.approx(0.25, abs=0.02)
    later = await start_all(queue, 10)
    tasks = [owned.task for owned in first.claims] + later
    for key in "xy":
        own = [task for task in tasks if (await read(queue, task.task_id)).key == key]
        assert len(own) == 9
        assert fits(own, 4, 1.0)


@pytest.mark.gen_test
async def test_what_a_limit_holds_back_takes_no_token(make_queue: MakeQueue) -> None:
    """Of the kind's rate and of its key's: they are there when it may start."""
    queue = make_queue(user_limit=1)
    await register(queue, rate="3/h", key_rate="3/h")
    ids = [await enqueue(queue, key="x") for _ in range(4)]
    for task_id in ids[:3]:
        claims = await claim(queue)
        assert [owned.task.task_id for owned in claims] == [task_id]
        assert await claim(queue) == []
        await end(queue, *claims)
    assert await claim(queue) == []
    assert (await read(queue, ids[3])).waiting_for == "key_rate"


@pytest.mark.gen_test
async def test_again_in_is_when_the_first_of_all_may_start(make_queue: MakeQueue) -> None:
    """None when only an end can help, or when the claim has got as many as it asked for."""
    queue = make_queue(user_limit=5)
    for kind, limits in {
        "minute": {"rate": "2/m"},
        "hour": {"rate": "2/h"},
        "key": {"key_rate": "4/m"},
        "full": {"limit": 1},
    }.items():
        await register(queue, kind, **limits)

    async def again_in(*kinds: str, count: int = 20) -> float | None:
        return (await queue.claim("w", count, kinds=kinds)).again_in

    for user in "abcd":
        await queue.create_batch(user, several("A", "B", kind="full"))
    assert await again_in("full") is None
    await queue.create_batch("a", several(*"ABC", kind="hour"))
    assert await again_in("hour") == pytest.approx(1800, abs=2)
    await queue.create_batch("b", several(*"ABC", kind="minute"))
    assert await again_in("hour", "minute") == pytest.approx(30, abs=2)
    await queue.create_batch("c", several(*"ABCDEF", kind="key", key="x"))
    assert await again_in("full", "hour", "minute", "key") == pytest.approx(15, abs=2)
    await queue.create_batch("d", several("A"))
    assert await again_in(KIND, "minute", count=1) is None
    assert await again_in("nobody has this") is None


@pytest.mark.gen_test
async def test_changed_rate_holds_for_what_starts_from_then_on(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await register(queue, rate="2/h")
    await queue.create_batch("a", several(*"A" * 20))
    assert len(await claim(queue)) == 2
    await queue.set_limits(KIND, {"rate": ""})
    assert len(await claim(queue)) == 10
    await queue.set_limits(KIND, {"rate": "3/d"})
    assert len(await claim(queue)) <= 3
    await queue.set_limits(KIND, None)
    assert await claim(queue) == []


@pytest.mark.gen_test
@pytest.mark.parametrize(("limit", "key"), [("rate", ""), ("key_rate", "x")])
async def test_raised_rate_holds_at_once(make_queue: MakeQueue, limit: str, key: str) -> None:
    """It does not wait for what the slower one had left behind."""
    queue = make_queue()
    await register(queue, **{limit: "1/d"})
    for _ in range(20):
        await enqueue(queue, key=key)
    assert len(await claim(queue)) == 1
    await queue.set_limits(KIND, {limit: "600/m"})
    # A token comes each 0.1 s.
    await until(lambda: has_claimed(queue))


async def has_claimed(queue: QueueService) -> bool:
    return bool(await claim(queue, 1))


# Why it waits


@pytest.mark.gen_test
async def test_waiting_task_says_what_it_waits_for(make_queue: MakeQueue) -> None:
    """One code after another: each, once it is gone, leaves the next."""
    queue = make_queue(user_limit=1, global_limit=1)
    limits = {"limit": 1, "user_limit": 1, "key_limit": 1, "rate": "1/h", "key_rate": "1/h"}
    await register(queue, **limits)
    await enqueue(queue, key="x")
    task_id = await enqueue(queue, key="x", delay=60.0)

    async def waits_for() -> str:
        [listed] = (await queue.list_tasks("a", limit=1)).items
        found = (await read(queue, task_id)).waiting_for
        assert listed.waiting_for == found
        return found

    assert await waits_for() == "schedule"
    await queue.cancel_task(task_id)
    assert await waits_for() == ""
    [owned] = await claim(queue)
    task_id = await enqueue(queue, key="x")
    await queue.pause()
    await queue.pause(KIND)
    steps: list[tuple[str, Any]] = [
        ("all_paused", lambda: queue.resume()),
        ("paused", lambda: queue.resume(KIND)),
        ("user_limit", lambda: queue.set_limits("", {"user_limit": 0})),
        ("kind_user_limit", lambda: queue.set_limits(KIND, {"user_limit": 0})),
        ("key_limit", lambda: queue.set_limits(KIND, {"key_limit": 0})),
        ("key_rate", lambda: queue.set_limits(KIND, {"key_rate": ""})),
        ("kind_limit", lambda: queue.set_limits(KIND, {"limit": 0})),
        ("rate", lambda: queue.set_limits(KIND, {"rate": ""})),
        ("global_limit", lambda: queue.set_limits("", {"global_limit": 0})),
    ]
    for code, change in steps:
        assert await waits_for() == code
        assert await claim(queue) == []
        await change()
    assert await waits_for() == "busy"
    assert await started(queue) == [task_id]
    assert await waits_for() == ""
    await end(queue, owned)
    assert (await read(queue, owned.task.task_id)).waiting_for == ""


@pytest.mark.gen_test
@ORDERS
async def test_next_task_waits_for_a_worker_and_those_behind_it_for_their_turn(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """A task before it whose user is at their limit is skipped, also before that was found."""
    queue = make_queue(user_limit=2, order=order)
    await register(queue)
    held = [await enqueue(queue, "a") for _ in range(4)]
    urgent = await enqueue(queue, "a", priority=Priority.HIGH)
    quiet = [await enqueue(queue, "b") for _ in range(2)]
    keyed = [await enqueue(queue, "c", key="k") for _ in range(2)]
    assert await started(queue, 2) == [urgent, held[0]]

    async def codes(*task_ids: str) -> list[str]:
        return [(await read(queue, task_id)).waiting_for for task_id in task_ids]

    assert await codes(*held[1:]) == ["user_limit"] * 3
    assert await codes(*quiet, *keyed) == ["busy", "line", "line", "line"]
    # This claim finds that the first user is at their limit, and puts them aside.
    assert await started(queue, 1) == quiet[:1]
    assert await codes(*held[1:]) == ["user_limit"] * 3
    expected = ["busy", "line", "line"] if order is QueueOrder.FIFO else ["line", "busy", "line"]
    assert await codes(quiet[1], *keyed) == expected


@pytest.mark.gen_test
async def test_task_behind_one_that_is_urgent_waits_for_its_turn(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await register(queue)
    normal = await enqueue(queue, "a")
    assert (await read(queue, normal)).waiting_for == "busy"
    urgent = await enqueue(queue, "b", priority=Priority.HIGH)
    assert (await read(queue, normal)).waiting_for == "line"
    assert (await read(queue, urgent)).waiting_for == "busy"


# When it may start


async def starts_in(queue: QueueService, *task_ids: str) -> list[float | None]:
    tasks = [await read(queue, task_id) for task_id in task_ids]
    return [json.loads(task.snapshot).get("starts_in") for task in tasks]


@pytest.mark.gen_test
async def test_expected_start_is_not_before_there_is_a_token(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """A token for each that waits before it; those that are there are for the first."""
    queue = make_queue(user_limit=0)
    await register(queue, rate="2/h")
    await queue.announce_worker("w1", [KIND])
    await redis.hset("{rtq}:pace", KIND, 1)
    ids = [await enqueue(queue) for _ in range(6)]
    first, second, *others = await starts_in(queue, *ids[:4])
    assert (first, second, others) == (0, pytest.approx(1, abs=0.3), [1800, 3600])
    assert await started(queue, 1) == ids[:1]
    close = pytest.approx([1, 1800, 3600, 5400, 7200], abs=10)
    assert await starts_in(queue, *ids[1:]) == close
    await queue.set_limits(KIND, {"rate": ""})
    assert await starts_in(queue, ids[5]) == [pytest.approx(5, abs=0.5)]


@pytest.mark.gen_test
async def test_expected_start_is_not_before_its_key_has_a_token(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(user_limit=0)
    await register(queue, key_rate="1/h")
    await queue.announce_worker("w1", [KIND])
    await redis.hset("{rtq}:pace", KIND, 1)
    ids = [await enqueue(queue, key=key) for key in ("x", "x", "x", "y")]
    assert await started(queue, 1) == ids[:1]
    assert await starts_in(queue, *ids[1:3]) == pytest.approx([3600, 7200], abs=10)
    assert (await starts_in(queue, ids[3])) == [pytest.approx(3, abs=0.5)]


@pytest.mark.gen_test
@pytest.mark.parametrize("paused", ["", KIND])
async def test_start_of_what_is_paused_is_not_expected(make_queue: MakeQueue, paused: str) -> None:
    queue = make_queue()
    await register(queue)
    await queue.announce_worker("w1", [KIND])
    task_id = await enqueue(queue)
    assert await starts_in(queue, task_id) != [None]
    await queue.pause(paused)
    assert await starts_in(queue, task_id) == [None]
    await queue.resume(paused)
    assert await starts_in(queue, task_id) != [None]


# A quiet tenant

NOISY = 20_000
NOISE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # The limit of the noisy one, and their tasks.
    "fair order": ({}, {}),
    "fair order and a key": ({"key_limit": 1}, {"key": "noisy"}),
    "fair order and a limit of users": ({"user_limit": 2}, {}),
    "fair order and a rate of keys": ({"key_rate": "1/h"}, {"key": "noisy"}),
}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.gen_test
async def test_quiet_tenant_starts_at_the_next_claim_beside_a_noisy_one(
    make_queue: MakeQueue, redis: Redis, noise: str
) -> None:
    limits, more = NOISE[noise]
    queue = make_queue(order=QueueOrder.FAIR)
    await register(queue, **limits)
    for _ in range(NOISY // 1000):
        await queue.create_batch("noisy", [new(**more)] * 1000)
    await claim(queue, 3)
    for _ in range(5):
        quiet = [await enqueue(queue, "quiet", key=key) for key in ("", "quiet")]
        [first, second, *_] = [await started(queue, 1) for _ in range(4)]
        # A turn of the noisy one may stand before theirs.
        assert quiet[0] in (first + second)
        for task_id in quiet:
            await queue.cancel_task(task_id)
    # To compare all of them with everything takes long.
    await redis.flushall()


@ORDERS
@pytest.mark.gen_test
async def test_quiet_tenant_passes_a_noisy_one_of_many_keys_that_are_full(
    make_queue: MakeQueue, order: QueueOrder
) -> None:
    """Those are put aside once, 500 a claim at most; then they are in nobody's way."""
    queue = make_queue(order=order)
    await register(queue, key_rate="1/d")
    for _ in range(2):
        await queue.create_batch("noisy", [new(key=f"k{number}") for number in range(2000)])
    assert len(await claim(queue, 4000)) == 2000
    quiet = await enqueue(queue, "quiet")
    for _ in range(2000 // 500 + 1):
        claimed = await queue.claim("w", 1, kinds=[KIND])
        if claimed.claims:
            break
        assert claimed.again_in == 0
    assert [owned.task.task_id for owned in claimed.claims] == [quiet]
    another = await enqueue(queue, "quiet")
    assert await started(queue, 1) == [another]
