"""Fair turns."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import until
from tornado_rt.turns import NoTurn, TooManyWaiting, Turns


class Users:
    """People who hold a turn until they are told to leave."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.begun: list[str] = []
        self.held: list[tuple[str, ...]] = []
        self.jobs: dict[int, asyncio.Task[None]] = {}
        self._leave: dict[int, asyncio.Event] = {}

    def come(self, *keys: str) -> int:
        number = len(self._leave)
        self._leave[number] = asyncio.Event()
        self.jobs[number] = asyncio.create_task(self._hold(number, keys))
        return number

    async def leave(self, number: int) -> None:
        self._leave[number].set()
        await asyncio.gather(self.jobs[number], return_exceptions=True)

    async def _hold(self, number: int, keys: tuple[str, ...]) -> None:
        async with self.turns.turn(*keys):
            self.begun.append(keys[0])
            self.inside.append(keys[0])
            self.held.append(keys)
            try:
                await self._leave[number].wait()
            finally:
                self.inside.remove(keys[0])
                self.held.remove(keys)


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(6):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_keys_go_in_rounds_whatever_one_of_them_asks_for() -> None:
    users = Users(Turns(2, 1))
    first = [users.come("greedy") for _ in range(20)]
    await settle()
    assert users.inside == ["greedy"]
    # The place that the greedy one may not have is free for others.
    other = users.come("alice")
    await settle()
    assert sorted(users.inside) == ["alice", "greedy"]
    waiting = [users.come(name) for name in ("bob", "carol")]
    await settle()
    await users.leave(other)
    await settle()
    assert users.begun == ["greedy", "alice", "bob"]
    await users.leave(first[0])
    await settle()
    # The greedy one stood in the line of keys before carol.
    assert users.begun == ["greedy", "alice", "bob", "greedy"]
    await users.leave(waiting[0])
    await settle()
    assert users.begun[-1] == "carol"
    for number in [*first[1:], waiting[1]]:
        users.jobs[number].cancel()
    await asyncio.gather(*users.jobs.values(), return_exceptions=True)
    assert (users.turns._running, users.turns._waiting) == (0, {})


@pytest.mark.gen_test
async def test_second_key_bounds_too() -> None:
    """As a host does, which many users name."""
    users = Users(Turns(8, 2))
    jobs = [users.come(f"user{n}", "slow.example") for n in range(5)]
    quick = users.come("user9", "quick.example")
    await settle()
    assert sorted(users.inside) == ["user0", "user1", "user9"]
    for number in (quick, *jobs):
        users.jobs[number].cancel()
    await asyncio.gather(*users.jobs.values(), return_exceptions=True)


@pytest.mark.gen_test
async def test_who_waits_for_a_busy_host_holds_up_none_of_their_own_for_another() -> None:
    users = Users(Turns(8, 2))
    busy = [users.come("mallory", "slow.example") for _ in range(2)]
    waiting = users.come("alice", "slow.example")
    quick = users.come("alice", "quick.example")
    later = users.come("alice", "other.example")
    third = users.come("alice", "third.example")
    await settle()
    assert sorted(users.held[2:]) == [("alice", "other.example"), ("alice", "quick.example")]
    await users.leave(quick)
    await settle()
    # The first of hers still may not start, the one behind it may.
    assert users.held[-1] == ("alice", "third.example")
    await users.leave(busy[0])
    await users.leave(later)
    await settle()
    assert users.held[-1] == ("alice", "slow.example")
    for number in (busy[1], waiting, third):
        await users.leave(number)
    assert (users.turns._running, users.turns._waiting) == (0, {})


@pytest.mark.gen_test
async def test_wait_is_bounded_in_number_and_time() -> None:
    users = Users(Turns(1, 1, most_waiting_a_key=1, seconds=0.05))
    users.come("alice")
    await settle()
    waiting = users.come("alice")
    await settle()
    with pytest.raises(TooManyWaiting):
        async with users.turns.turn("alice"):
            pass
    with pytest.raises(NoTurn, match=r"no turn within 0\.05 s"):
        await users.jobs[waiting]
    await users.leave(0)
    async with users.turns.turn("alice"):
        pass


@pytest.mark.gen_test
async def test_all_who_wait_can_be_refused_at_once() -> None:
    users = Users(Turns(1, 1))
    users.come("alice")
    await settle()
    waiting = [users.come(name) for name in ("alice", "bob")]
    await settle()
    users.turns.refuse_waiting(OSError("away"))
    ended = await asyncio.gather(*(users.jobs[n] for n in waiting), return_exceptions=True)
    assert [str(one) for one in ended] == ["away", "away"]
    await users.leave(0)
    await until(lambda: users.turns._running == 0)


STEPS = st.lists(st.tuples(st.sampled_from(["come", "leave", "cancel"]), st.integers(0, 40)))


@settings(max_examples=150)
@given(STEPS, st.integers(0, 4), st.integers(0, 3), st.integers(1, 4))
def test_bounds_hold_and_no_place_stays_empty(
    steps: list[tuple[str, int]], most: int, most_a_key: int, hosts: int
) -> None:
    """Users come, leave and give up in any order; 0 is no bound."""

    async def play() -> None:
        users = Users(Turns(most, most_a_key))
        for what, number in steps:
            if what == "come":
                host = [f"host{number % hosts}"] if hosts > 1 else []
                users.come(f"user{number % 5}", *host)
            elif number in users.jobs:
                if what == "leave":
                    users._leave[number].set()
                else:
                    users.jobs[number].cancel()
            if number % 2:
                continue
            await settle()
            assert_fair(users, most, most_a_key)
        for job in users.jobs.values():
            job.cancel()
        await asyncio.gather(*users.jobs.values(), return_exceptions=True)
        assert (users.turns._running, users.turns._waiting) == (0, {})
        assert not users.turns._running_of

    asyncio.run(play())


def assert_fair(users: Users, most: int, most_a_key: int) -> None:
    """Nobody is in who may not be, and nobody waits who might be in."""
    inside = Counter(key for keys in users.held for key in keys)
    assert not most or len(users.held) <= most
    assert not most_a_key or max(inside.values(), default=0) <= most_a_key
    if most and len(users.held) == most:
        return
    for line in users.turns._waiting.values():
        for waiter in line:
            assert most_a_key
            assert any(inside[key] == most_a_key for key in waiter.keys)
