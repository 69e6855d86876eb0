"""Fan-out: encode once, in slices, in order; to real sockets where it matters."""

import asyncio
import itertools
import time
from collections.abc import Callable

import attrs
import pytest
from redis.asyncio import Redis

from tests.peers import TEXT
from tests.realtime import realtime
from tests.waiting import until
from tornado_rt.fanout import SMALL, Fanout
from tornado_rt.protocol import Message

Token = Callable[..., str]
MANY = 20 * SMALL


def news(number: int) -> Message:
    return Message("progress", b'{"number":%d}' % number)


@attrs.define(eq=False)
class Receiver:
    """Takes its time, and keeps what it gets."""

    seconds: float = 0.0
    numbers: list[int] = attrs.field(factory=list)
    pieces: int = 0

    def deliver(self, message: Message) -> None:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        self.pieces += 1
        self.numbers += [part.fields()["number"] for part in message.parts]


@attrs.frozen
class Counted(Message):
    """A message that counts how often it is encoded."""

    times: list[str] = attrs.field(factory=list)

    def encode(self) -> bytes:
        self.times.append("encoded")
        return super().encode()


@pytest.mark.gen_test
async def test_message_is_encoded_once_for_all_sockets_and_streams(
    redis: Redis, make_token: Token
) -> None:
    """Each transport's form is made when first needed, whatever the number of subscribers."""
    async with realtime(redis) as core:
        peers = [await core.peer(make_token(f"user{n}")) for n in range(SMALL)]
        streams = [await core.stream(make_token("alice")) for _ in range(SMALL)]
        await until(lambda: core.hub.stats().by_topic, equal={"task": 2 * SMALL})
        message = Counted("progress", b'{"number":1}')
        core.hub.deliver("task:t1", message)
        for peer in peers:
            await peer.frame_of(TEXT, b'"number"')
        for stream in streams:
            while (await stream.event()).get("event") != "progress":
                pass
        assert message.times == ["encoded"]
        assert message.ws_frame is message.ws_frame
        assert message.sse_chunk is message.sse_chunk


@pytest.mark.gen_test
async def test_few_are_served_at_once() -> None:
    few = [Receiver() for _ in range(SMALL)]
    Fanout(lambda _: few).deliver("task:1", news(1))
    assert [one.numbers for one in few] == [[1]] * SMALL


@pytest.mark.gen_test
async def test_loop_has_its_turn_between_slices() -> None:
    """A broadcast that takes long in all never keeps anything else waiting for long."""
    many = [Receiver(seconds=0.0001) for _ in range(MANY)]
    Fanout(lambda _: many).deliver("broadcast", news(1))
    turns = [time.monotonic()]
    while not many[-1].pieces:
        await asyncio.sleep(0)
        turns.append(time.monotonic())
    longest = sorted(after - before for before, after in itertools.pairwise(turns))
    assert turns[-1] - turns[0] > MANY * 0.0001
    # Not the very longest: the machine has other things to do as well.
    assert len(longest) > 50
    assert longest[len(longest) // 2] < 0.01


@pytest.mark.gen_test
async def test_what_comes_meanwhile_goes_together_and_in_order() -> None:
    many = [Receiver(seconds=0.00001) for _ in range(MANY)]
    fanout = Fanout(lambda _: many)
    for number in range(100):
        fanout.deliver("broadcast", news(number))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(many[-1].numbers) >= 100)
    assert all(one.numbers == list(range(100)) for one in many)
    assert many[-1].pieces < 50


@pytest.mark.gen_test
async def test_topics_take_turns() -> None:
    """A small news item does not wait for the end of a large broadcast."""
    many = [Receiver(seconds=0.0001) for _ in range(MANY)]
    others = [Receiver() for _ in range(SMALL + 1)]
    fanout = Fanout(lambda topic: many if topic == "broadcast" else others)
    fanout.deliver("broadcast", news(1))
    await asyncio.sleep(0)
    fanout.deliver("task:1", news(2))
    await until(lambda: others[-1].pieces, pause=0)
    assert not many[-1].pieces


@pytest.mark.gen_test
async def test_who_comes_during_a_broadcast_gets_what_is_published_after_it() -> None:
    many = [Receiver(seconds=0.00001) for _ in range(MANY)]
    fanout = Fanout(lambda _: many)
    fanout.deliver("broadcast", news(1))
    await asyncio.sleep(0)
    many.append(Receiver())
    fanout.deliver("broadcast", news(2))
    await until(lambda: many[-1].pieces, pause=0)
    assert many[-1].numbers == [2]
    assert many[0].numbers == [1, 2]
