"""Calls that share a round trip."""

import asyncio

import pytest

from tornado_rt.batcher import Batcher


class Away(Exception):
    """The store does not answer."""


class Store:
    """Answers with twice the number, and notes what was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def send(self, items: list[str]) -> list[int]:
        self.batches.append(items)
        await self.may_answer.wait()
        if self.away:
            raise Away("away")
        return [2 * int(one) for one in items]

    def batcher(self, together: int = 3) -> Batcher[str, int]:
        return Batcher(self.send, "test", together=together, common=(Away,))


@pytest.mark.gen_test
async def test_what_comes_meanwhile_goes_together_in_order() -> None:
    store = Store()
    batcher = store.batcher()
    store.may_answer.clear()
    asked = [asyncio.create_task(batcher.ask(str(number))) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.batches == [["0", "1"]]
    asked += [asyncio.create_task(batcher.ask(str(number))) for number in range(2, 7)]
    await asyncio.sleep(0)
    store.may_answer.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10, 12]
    assert store.batches == [["0", "1"], ["2", "3", "4"], ["5", "6"]]


@pytest.mark.gen_test
async def test_item_that_fails_takes_nothing_from_the_others() -> None:
    """Only the caller that asked for it is told why."""
    store = Store()
    batcher = store.batcher()
    asked = [batcher.ask(one) for one in ("1", "x", "2")]
    first, bad, second = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, second) == (2, 4)
    assert isinstance(bad, ValueError)


@pytest.mark.gen_test
async def test_outage_is_told_to_all_by_one_call() -> None:
    store = Store()
    store.away = True
    found = await asyncio.gather(*map(store.batcher().ask, "123"), return_exceptions=True)
    assert [str(one) for one in found] == ["away"] * 3
    assert store.batches == [["1", "2", "3"]]


@pytest.mark.gen_test
async def test_one_who_gives_up_takes_nothing_from_the_others() -> None:
    store = Store()
    batcher = store.batcher()
    store.may_answer.clear()
    asked = [asyncio.create_task(batcher.ask(one)) for one in "12"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked[0].cancel()
    store.may_answer.set()
    assert await asked[1] == 4
    assert await batcher.ask("3") == 6


@pytest.mark.gen_test
async def test_close_leaves_nobody_waiting() -> None:
    store = Store()
    batcher = store.batcher(together=1)
    store.may_answer.clear()
    asked = [asyncio.create_task(batcher.ask(one)) for one in "12"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await batcher.close()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2


@pytest.mark.gen_test
async def test_reply_that_is_an_error_is_raised_to_its_asker_alone() -> None:
    async def send(items: list[int]) -> list[int | Exception]:
        return [one if one else Away("none") for one in items]

    batcher: Batcher[int, int] = Batcher(send, "test", together=3, common=())
    found = await asyncio.gather(*map(batcher.ask, (1, 0, 2)), return_exceptions=True)
    assert [found[0], found[2]] == [1, 2]
    assert isinstance(found[1], Away)


@pytest.mark.gen_test
async def test_batches_at_once_are_as_many_as_allowed_and_needed() -> None:
    """Those of one moment fill as few as can be; what comes later does not wait for them."""
    store = Store()
    batcher: Batcher[str, int] = Batcher(store.send, "test", together=3, common=(Away,), at_once=3)
    store.may_answer.clear()
    asked = [asyncio.create_task(batcher.ask(str(number))) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.batches == [["0", "1", "2"], ["3"]]
    asked += [asyncio.create_task(batcher.ask(str(number))) for number in (4, 5)]
    await asyncio.sleep(0)
    asked += [asyncio.create_task(batcher.ask(str(number))) for number in (6, 7)]
    await asyncio.sleep(0)
    assert store.batches == [["0", "1", "2"], ["3"], ["4", "5"]]
    store.may_answer.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(8)]
    assert store.batches[3:] == [["6", "7"]]


@pytest.mark.gen_test
async def test_job_that_is_cancelled_before_it_begins_stops_nobody_else() -> None:
    """A handler may cancel every task of the loop."""
    store = Store()
    batcher = store.batcher()
    asked = asyncio.create_task(batcher.ask("1"))
    await asyncio.sleep(0)
    (job,) = batcher._jobs
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await batcher.ask("2") == 4
