"""Single connections that are refused, renewed, slow, silent or cut; and what they leave behind."""

import asyncio
import contextlib
import functools
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.faults.clients import ME, Client, Script
from tests.faults.conftest import Play
from tests.faults.crowd import WS, Crowd
from tests.faults.dropping import DROPPED_SECONDS, WAVE, at_rest, drop_streams, held, open_stream
from tests.faults.fleet import Form
from tests.faults.gateway import Straight
from tests.faults.hosts import Node
from tests.faults.raw import vanish
from tests.faults.system import Server, System
from tests.peers import Peer, Peers
from tests.waiting import until

pytestmark = pytest.mark.long

STREAMS = int(os.environ.get("RT_FAULT_STREAMS", "300"))
HEARTBEAT_SECONDS = 0.3
# A message may take this much longer while somebody is slow [s].
DELAY_SECONDS = 0.5
FLOOD = 2000
WAVE_OF_FLOOD = 25
# Connections to the stores that a server may keep in reserve more than before, at most.
SPARE_DESCRIPTORS = 10


@pytest.mark.parametrize(
    ("path", "sent", "code"),
    [
        (f"{WS}?last_id=x", None, 4400),
        ("/api/ws/tasks/nobodys", None, 4404),
        (WS, b"\x82\x81\0\0\0\0\0", 1003),
        (WS, b"\x81\xff" + (1 << 20).to_bytes(8, "big") + bytes(4), 1009),
    ],
    ids=["bad cursor", "no such task", "binary", "too large"],
)
def test_final_close_codes(play: Play, path: str, sent: bytes | None, code: int) -> None:
    """Each is what the protocol says, and nothing of the connection is left."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Peers() as peers:
            socket = await peers.open(rng.choice(system.servers).port, path, system.token("alice"))
            if sent is not None:
                await socket.message_of("connected")
                socket.writer.write(sent)
            assert await _code(socket) == code

    play(scenario)


async def _code(socket: Peer) -> int | None:
    while await socket.message():
        pass
    return socket.code


def test_client_does_not_come_back_after_a_refusal(play: Play) -> None:
    """A bad token and another's task end a client of any form."""

    async def scenario(system: System, rng: random.Random) -> None:
        server = rng.choice(system.servers)
        async with Crowd(system, rng, users=1) as crowd, contextlib.AsyncExitStack() as stack:
            topic = f"task:{await crowd.submit(0.1)}"

            async def follow(form: Form, topic: str, **options: str) -> Client:
                following = system.fleet.following(form, "alice", topic, server=server, **options)
                return await stack.enter_async_context(following)

            strangers = [await follow(form, ME, token="none") for form in Form]
            others = [await follow(form, topic) for form in Form]
            await until(lambda: all(one.ended for one in [*strangers, *others]), what="all end")
            # In JavaScript it is the close code, over streams too.
            assert {one.journal.refusal for one in strangers} == {401, 4401}
            assert {one.journal.refusal for one in others} == {404}
            assert {one.reconnects for one in others} == {0}
            await crowd.settle()

    play(scenario)


def test_client_comes_back_after_4510(play: Play) -> None:
    """One that did not answer pings comes back when it can, and has missed nothing."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=1) as crowd:
            user = crowd.users[0]
            async with system.fleet.node() as node, _at(system, node, user, rng) as client:
                await _beat_fast(system)
                node.freeze()
                await until(functools.partial(_has, system, client.server, crowd), what="it is cut")
                titles = [await crowd.notify(user) for _ in range(3)]
                node.thaw()
                await until(lambda: all(map(client.has, titles)), what="they come")
                assert client.journal.codes == [4510]
                assert [client.journal.notifications[one] for one in titles] == [1, 1, 1]
            await crowd.settle()
        await _beat_slowly(system)

    play(scenario)


@contextlib.asynccontextmanager
async def _at(system: System, node: Node, user: str, rng: random.Random) -> AsyncIterator[Client]:
    """Have a client in a process of its own, by a WebSocket, that is connected."""
    server = rng.choice(system.servers)
    # A gateway would read what the client does not.
    async with Script(
        system, user, ME, server=server, host=node, gateway=Straight(server)
    ) as client:
        await until(lambda: client.up, what="it is connected")
        yield client


async def _has(system: System, server: Server, crowd: Crowd) -> bool:
    """Say whether the server has no more connections than the crowd's own."""
    own = sum(client.server is server for client in crowd.clients)
    return bool((await system.stats(server))["total_connections"] == own)


async def _beat_fast(system: System) -> None:
    await system.change_settings(
        ws_heartbeat_interval_seconds=HEARTBEAT_SECONDS,
        sse_heartbeat_interval_seconds=HEARTBEAT_SECONDS,
    )


async def _beat_slowly(system: System) -> None:
    await system.change_settings(ws_heartbeat_interval_seconds=5, sse_heartbeat_interval_seconds=5)


def test_half_open_connections_are_dropped(play: Play) -> None:
    """Peers whose packets vanish are noticed by the heartbeats, on both transports."""

    async def scenario(system: System, rng: random.Random) -> None:
        server = rng.choice(system.servers)
        async with Peers() as peers:
            opened = []
            for number in range(4):
                socket = await peers.open(server.port, WS, system.token(f"half{number}"))
                await socket.message_of("connected")
                _, writer = await open_stream(peers, server, system.token(f"half{number}"))
                opened += [socket.socket, writer.get_extra_info("socket")]
            ports = {one.getsockname()[1] for one in opened}
            assert await held(system, ports) == (8, 8)
            for one in opened:
                vanish(one)
            await _beat_fast(system)
            await until(
                functools.partial(held, system, ports),
                DROPPED_SECONDS,
                "all dropped",
                equal=(0, 0),
                pause=0.2,
            )
        await _beat_slowly(system)

    play(scenario)


def test_slow_reader_delays_nobody_and_misses_nothing(play: Play) -> None:
    """It is closed when too much waits for it, comes back, and finds what it missed."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=2) as crowd:
            user = crowd.users[0]
            async with system.fleet.node() as node, _at(system, node, user, rng) as slow:
                node.freeze()
                titles = await _flood(system, crowd, slow.server)
                node.thaw()
                await until(lambda: all(map(slow.has, titles)), what="it has what it missed")
                assert {slow.journal.notifications[title] for title in titles} == {1}
                # It may be cut before it has read the close frame.
                assert slow.journal.codes in ([4508], [1006])
            await crowd.settle()

    play(scenario)


async def _flood(system: System, crowd: Crowd, server: Server) -> list[str]:
    """Broadcast until the slow one is dropped; write to its user all the while. Return the titles.

    The notifications are on time for everybody else.
    """
    titles: list[str] = []
    own = sum(client.server is server for client in crowd.clients)
    for _ in range(0, FLOOD, WAVE_OF_FLOOD):
        await asyncio.gather(*(_broadcast(system, server) for _ in range(WAVE_OF_FLOOD)))
        began = time.monotonic()
        titles.append(await crowd.notify(crowd.users[0]))
        everybody = crowd.listeners[crowd.users[0]]
        here = functools.partial(_all_have, everybody, titles[-1])
        await until(here, DELAY_SECONDS, "nobody waits for the slow one")
        assert time.monotonic() - began < 2 * DELAY_SECONDS
        if (await system.stats(server))["total_connections"] == own:
            return titles
    raise AssertionError("the slow reader was never dropped")


def _all_have(clients: list[Any], title: str) -> bool:
    return all(client.has(title) for client in clients)


async def _broadcast(system: System, server: Server) -> None:
    body = {
        "type": "system",
        "title": "flood",
        "content": "x" * 5000,
        "metadata": {"x": "y" * 8000},
    }
    answer = await system.ask(server, "POST", "/api/broadcast", "admin", body, scope="rt:admin")
    assert answer.status == 202, answer


def test_token_is_renewed_without_a_reconnect(play: Play) -> None:
    """A client with a fresh token stays; another is closed with 4401 or ended, and told why."""

    async def scenario(system: System, rng: random.Random) -> None:
        server, user = rng.choice(system.servers), "renewing"
        short = system.token(user, ttl=4.0)

        def follow(form: Form, **options: str) -> AbstractAsyncContextManager[Client]:
            options = {"token": short, **options}
            return system.fleet.following(form, user, ME, server=server, **options)

        async with (
            follow(Form.NODE, next_token=system.token(user)) as renewing,
            follow(Form.NODE) as expiring,
            follow(Form.ASYNC) as stream,
        ):
            everybody = (renewing, expiring, stream)
            await until(lambda: all(one.up for one in everybody), what="all are connected")
            await until(lambda: expiring.ended and stream.ended, what="the others have expired")
            body = {"user_id": user, "type": "alert", "title": "after"}
            await system.ask(server, "POST", "/api/notifications", user, body)
            await until(lambda: renewing.has("after"), what="it goes on under the fresh token")
            assert renewing.reconnects == 0
            assert expiring.journal.refusal == 4401
            assert stream.journal.refusal == 401

    play(scenario)


def test_dropped_streams_leave_nothing(play: Play) -> None:
    """However streams end, subscriptions, connections, descriptors and tasks are as before."""

    async def scenario(system: System, rng: random.Random) -> None:
        await _beat_fast(system)
        # The first wave opens whatever connections to the stores stay open for good.
        await drop_streams(system, rng, 2 * WAVE)
        before, descriptors = await at_rest(system)
        await drop_streams(system, rng, STREAMS)
        after, left = await at_rest(system, before)
        print(f"before {STREAMS} streams: {before}, {descriptors} descriptors")
        print(f"after them: {after}, {left} descriptors")
        assert after == before
        assert after.pubsub_connections == len(system.servers) + len(system.workers)
        assert left <= descriptors + SPARE_DESCRIPTORS * len(system.servers)
        await _beat_slowly(system)

    play(scenario)
