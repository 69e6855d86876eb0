"""Requests that handlers are at work on: each in its time, by one timer."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from tests.waiting import until
from tornado_rt.under_way import UnderWay

SECONDS = 0.2

named: ContextVar[str] = ContextVar("named", default="")


class Slow:
    """A request that tells when it was refused, and in whose context."""

    def __init__(self) -> None:
        self.refused: list[tuple[float, str]] = []

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Do nothing: no test stops."""

    def refuse_slow(self, task: "asyncio.Task[Any]") -> None:
        self.refused.append((asyncio.get_running_loop().time(), named.get()))


@pytest.mark.gen_test
async def test_each_is_refused_at_its_own_time_and_in_its_own_context() -> None:
    under_way, requests = UnderWay(SECONDS), [Slow() for _ in range(3)]
    task = asyncio.current_task()
    assert task is not None
    loop, began = asyncio.get_running_loop(), list[float]()
    for number, request in enumerate(requests):
        named.set(f"request {number}")
        began.append(loop.time())
        under_way.begin(request, task)
        await asyncio.sleep(SECONDS / 4)
    named.set("another")
    await until(lambda: all(one.refused for one in requests))
    for number, request in enumerate(requests):
        [(at, name)] = request.refused
        assert name == f"request {number}"
        assert at - began[number] >= SECONDS - 0.01
        # Not with the last of them.
        assert number == 2 or at < requests[number + 1].refused[0][0]


@pytest.mark.gen_test
async def test_time_does_not_pass_while_it_is_not_counted_and_begins_anew() -> None:
    under_way, paused, again, last = UnderWay(SECONDS), Slow(), Slow(), Slow()
    task = asyncio.current_task()
    assert task is not None
    for one in (again, paused, last):
        under_way.begin(one, task)
    under_way.pause(paused)
    under_way.pause(paused)
    await asyncio.sleep(SECONDS / 2)
    under_way.begin(again, task)
    await until(lambda: again.refused)
    assert again.refused[0][0] - last.refused[0][0] >= SECONDS / 2 - 0.02
    assert not paused.refused
    # After a time without any the next one has its timer too.
    under_way.begin(paused, task)
    await until(lambda: paused.refused)


@pytest.mark.gen_test
async def test_without_a_bound_nothing_is_refused() -> None:
    under_way, request = UnderWay(), Slow()
    task = asyncio.current_task()
    assert task is not None
    under_way.begin(request, task)
    under_way.pause(request)
    await asyncio.sleep(SECONDS)
    assert not request.refused
