"""Single connections that are refused, renewed, slow, silent or cut; and what they leave behind."""

import functools
import os
import random
import time
from typing import Any

import pytest

from tests.faults.clients import Client, SocketClient, StreamClient
from tests.faults.conftest import Play
from tests.faults.crowd import SSE, WS, Crowd
from tests.faults.dropping import DROPPED_SECONDS, WAVE, at_rest, drop_streams, is_bare, open_stream
from tests.faults.raw import vanish
from tests.faults.system import Server, System
from tests.peers import Peer, Peers
from tests.waiting import until

STREAMS = int(os.environ.get("RT_FAULT_STREAMS", "300"))
HEARTBEAT_SECONDS = 0.3
# How much longer a message may take while somebody is slow [s].
DELAY_SECONDS = 0.5
SLOW_BYTES = 4096
FLOOD = 2000
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


def test_client_does_not_come_back_after_4401_and_4404(play: Play) -> None:
    """A bad token and another's task end a client on both transports."""

    async def scenario(system: System, rng: random.Random) -> None:
        server = rng.choice(system.servers)
        async with Crowd(system, rng, users=1) as crowd:
            task_id = await crowd.submit(0.1)
            other = f"/api/ws/tasks/{task_id}"
            clients: list[Client] = [
                SocketClient(system, "alice", WS, server=server),
                StreamClient(system, "alice", SSE, server=server),
                SocketClient(system, "alice", other, server=server),
                StreamClient(system, "alice", f"/api/tasks/{task_id}", server=server),
            ]
            clients[0].token = clients[1].token = "no token"
            async with clients[0], clients[1], clients[2], clients[3]:
                await until(lambda: all(one.ended for one in clients), what="all have ended")
            assert [one.journal.codes for one in clients] == [[4401], [401], [4404], [404]]
            await crowd.settle()

    play(scenario)


def test_client_comes_back_after_4508_and_4510(play: Play) -> None:
    """One that did not answer pings comes back when it can, and has missed nothing."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=1) as crowd, Peers() as peers:
            server, user = crowd.server(), crowd.users[0]
            socket = await peers.open(server.port, WS, system.token(user))
            last_id = (await socket.message_of("connected"))["id"]
            await _beat_fast(system)
            # It reads nothing, so it answers no ping.
            await until(functools.partial(_has, system, server, crowd), what="it is dropped")
            titles = [await crowd.notify(user) for _ in range(3)]
            assert await _code(socket) == 4510
            again = await peers.open(server.port, f"{WS}?last_id={last_id}", system.token(user))
            found = [await again.message_of("notification") for _ in titles]
            assert [message["data"]["title"] for message in found] == titles
            await crowd.settle()
        await _beat_slowly(system)

    play(scenario)


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
            assert await system.connections() == 8
            for one in opened:
                vanish(one)
            await _beat_fast(system)
            await until(functools.partial(is_bare, system), DROPPED_SECONDS, "all dropped")
        await _beat_slowly(system)

    play(scenario)


def test_slow_reader_delays_nobody_and_misses_nothing(play: Play) -> None:
    """It is closed when too much waits for it, comes back, and finds what it missed."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=2) as crowd, Peers() as peers:
            user, server = crowd.users[0], rng.choice(system.servers)
            token = system.token(user)
            slow = await peers.open(server.port, WS, token, receive_bytes=SLOW_BYTES)
            last_id = (await slow.message_of("connected"))["id"]
            titles = await _flood(system, crowd, server)
            code = await _code(slow)
            again = await peers.open(server.port, f"{WS}?last_id={last_id}", token)
            found = [await again.message_of("notification") for _ in titles]
            assert [message["data"]["title"] for message in found] == titles
            assert code in (4508, None)
            await crowd.settle()

    play(scenario)


async def _flood(system: System, crowd: Crowd, server: Server) -> list[str]:
    """Broadcast until the slow one is dropped; write to its user all the while. Return the titles.

    The notifications are on time for everybody else.
    """
    titles: list[str] = []
    own = sum(client.server is server for client in crowd.clients)
    for number in range(FLOOD):
        await _broadcast(system, server)
        if number % 50:
            continue
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
    """Who sends a fresh one stays; who does not is closed with 4401 or ended, and told why."""

    async def scenario(system: System, rng: random.Random) -> None:
        server, user = rng.choice(system.servers), "renewing"
        renewing = SocketClient(system, user, WS, server=server)
        expiring = SocketClient(system, user, WS, server=server)
        stream = StreamClient(system, user, SSE, server=server)
        for client in (renewing, expiring, stream):
            client.token = system.token(user, ttl=4.0)
        async with renewing, expiring, stream:
            await until(lambda: renewing.up and expiring.up and stream.up, what="all are connected")
            await renewing.say("auth", token=system.token(user))
            await until(lambda: expiring.ended and stream.ended, what="the others have expired")
            body = {"user_id": user, "type": "alert", "title": "after"}
            await system.ask(server, "POST", "/api/notifications", user, body)
            await until(lambda: renewing.has("after"), what="it goes on under the fresh token")
            assert renewing.reconnects == 0
            assert expiring.journal.codes == [4401]
            assert expiring.journal.saw_error("token_expired")
            assert stream.journal.saw_error("token_expired")

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
