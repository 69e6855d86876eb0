"""Gaps in what is published: each message comes once, and what was missed too."""

import asyncio
import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.realtime import EPOCH, EventStream, Realtime, realtime
from tornado_rt.protocol import Bundle

Token = Callable[..., str]


async def open_from_the_start(core: Realtime, token: str) -> EventStream:
    """Open a stream of all that the log has; return when it is connected."""
    stream = await core.stream(token, last_id=f"{EPOCH}-0")
    assert (await stream.event())["event"] == "connected"
    return stream


async def numbers(stream: EventStream, count: int) -> list[int]:
    """Return the numbers of the next events."""
    return [json.loads((await stream.event())["data"])["number"] for _ in range(count)]


@pytest.mark.gen_test
@pytest.mark.parametrize("contiguous", [True, False])
async def test_what_is_published_after_it_was_read_is_sent_once(
    redis: Redis, make_token: Token, contiguous: bool
) -> None:
    """Also when it was held meanwhile, and when it comes together with what is new."""
    async with realtime(redis) as core:
        core.log.contiguous = contiguous
        read = [core.log.append(number=number) for number in (1, 2)]
        stream = await open_from_the_start(core, make_token("alice"))
        assert await numbers(stream, 2) == [1, 2]
        for message in read:
            await core.backplane.publish(core.log.topic, message)
        new = core.log.append(number=3)
        core.hub.deliver(core.log.topic, Bundle.join([read[1], new]))
        await core.publish(number=4)
        assert await numbers(stream, 2) == [3, 4]


@pytest.mark.gen_test
@pytest.mark.parametrize("opening", [True, False])
async def test_gap_while_the_log_is_read_has_it_read_again(
    redis: Redis, make_token: Token, opening: bool
) -> None:
    """A message that was lost then came into the log after it was read."""
    async with realtime(redis) as core:
        if not opening:
            stream = await core.stream(make_token("alice"), last_id=f"{EPOCH}-0")
        core.log.reading.clear()
        core.log.may_read.clear()
        if opening:
            coming = asyncio.create_task(
                core.stream(make_token("alice"), last_id=f"{EPOCH}-0"), name="open"
            )
        else:
            core.hub.gap(core.log.topic)
        await core.log.reading.wait()
        core.log.append(number=1)
        core.hub.gap(core.log.topic)
        core.log.may_read.set()
        if opening:
            stream = await coming
        assert (await stream.event())["event"] == "connected"
        assert await numbers(stream, 1) == [1]


@pytest.mark.gen_test
async def test_what_is_brought_while_the_log_cannot_be_read_is_not_brought_again(
    redis: Redis, make_token: Token
) -> None:
    """It replaces the messages before it that were missed."""
    async with realtime(redis) as core:
        stream = await open_from_the_start(core, make_token("alice"))
        core.log.away = True
        core.log.reading.clear()
        core.log.append(number=1)
        core.hub.gap(core.log.topic)
        await core.log.reading.wait()
        await core.publish(number=2)
        found = await numbers(stream, 1)
        core.log.away = False
        core.log.append(number=3)
        assert found + await numbers(stream, 1) == [2, 3]


@pytest.mark.gen_test
async def test_news_behind_a_gap_wait_for_what_is_missing(redis: Redis, make_token: Token) -> None:
    """Each comes once and in its place, also when the log could not be read at first."""
    async with realtime(redis) as core:
        core.log.contiguous = True
        stream = await open_from_the_start(core, make_token("alice"))
        core.log.away = True
        core.log.reading.clear()
        core.log.append(number=1)
        await core.publish(number=2)
        await core.log.reading.wait()
        core.log.reading.clear()
        await core.log.reading.wait()
        core.log.away = False
        await core.publish(number=3)
        assert await numbers(stream, 3) == [1, 2, 3]
        await core.publish(number=4)
        assert await numbers(stream, 1) == [4]
