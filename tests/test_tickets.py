"""One-time tickets."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import serving
from tests.waiting import until
from tornado_rt.auth import AuthError, Identity
from tornado_rt.tickets import Tickets, TooManyTickets

Token = Callable[..., str]


def alice(seconds: float = 60) -> Identity:
    return Identity("alice", frozenset({"rt:admin"}), time.time() + seconds)


@pytest.mark.gen_test
async def test_ticket_is_redeemed_once(redis: Redis) -> None:
    """Also when many come at once; and the store does not hold the ticket itself."""
    identity, tickets = alice(), Tickets(redis, 30)
    ticket = await tickets.issue(identity)
    [key] = await redis.keys("*")
    assert ticket.encode() not in key
    assert 0 < await redis.ttl(key) <= 30
    found = await asyncio.gather(
        *(tickets.redeem(ticket) for _ in range(5)), return_exceptions=True
    )
    assert [one for one in found if not isinstance(one, AuthError)] == [identity]


@pytest.mark.gen_test
async def test_looking_at_a_ticket_leaves_it(redis: Redis) -> None:
    identity, tickets = alice(), Tickets(redis, 30)
    ticket = await tickets.issue(identity)
    assert [await tickets.look(ticket) for _ in range(2)] == [identity, identity]
    assert await tickets.redeem(ticket) == identity
    with pytest.raises(AuthError):
        await tickets.look(ticket)


@pytest.mark.gen_test
async def test_ticket_lives_no_longer_than_its_token(redis: Redis) -> None:
    tickets = Tickets(redis, 30)
    await tickets.issue(alice(2))
    [key] = await redis.keys("*")
    assert 0 < await redis.pttl(key) <= 2000
    with pytest.raises(AuthError, match="the token has expired"):
        await tickets.issue(alice(-1))


@pytest.mark.gen_test
async def test_ticket_of_an_expired_token_is_refused(redis: Redis) -> None:
    """Also when the store still has it, as one of an earlier version."""
    tickets = Tickets(redis, 30)
    ticket = await tickets.issue(alice())
    [key] = await redis.keys("*")
    await redis.set(key, b'["alice",[],%d,"what a later version adds"]' % (time.time() - 1), ex=30)
    for use in (tickets.look, tickets.redeem):
        with pytest.raises(AuthError, match="the token of the ticket has expired"):
            await use(ticket)


@pytest.mark.gen_test
async def test_bound_on_waiting_tickets_is_each_users(redis: Redis) -> None:
    """A used one makes room, and so does one whose time is over."""
    tickets = Tickets(redis, 30, most_waiting=2)
    first, _ = await tickets.issue(alice(0.5)), await tickets.issue(alice())
    with pytest.raises(TooManyTickets) as refused:
        await tickets.issue(alice())
    assert 0 < refused.value.retry_after <= 0.5
    await tickets.issue(attrs.evolve(alice(), user_id="bob"))
    await tickets.redeem(first)
    third = await tickets.issue(alice(0.2))

    async def has_room() -> bool:
        try:
            await tickets.issue(alice())
        except TooManyTickets:
            return False
        return True

    assert not await has_room()
    await until(has_room, 20, "the third ticket's time is over")

    async def is_refused() -> bool:
        try:
            await tickets.look(third)
        except AuthError:
            return True
        return False

    # Ends are counted in milliseconds.
    await until(is_refused, 20, "the third ticket has gone")


@pytest.mark.gen_test
async def test_tickets_leave_nothing_behind(redis: Redis) -> None:
    tickets = Tickets(redis, 30, most_waiting=5)
    await tickets.redeem(await tickets.issue(alice(1)))
    await tickets.issue(alice(0.3))

    async def is_empty() -> bool:
        return not await redis.keys("*")

    await until(is_empty, 20, "all keys are gone")


STRANGE = ["x", "x" * 44, "x" * 100_000, "é" * 43, "x" * 42 + "\n", "\ud800" * 43, "a b"]


@pytest.mark.gen_test
async def test_user_whose_key_is_of_another_type_gets_tickets(redis: Redis) -> None:
    identity, tickets = alice(), Tickets(redis, 30, 2)
    await tickets.issue(identity)
    [waiting] = await redis.keys("{rt}:tickets:*")
    await redis.delete(waiting)
    await redis.set(waiting, "x")
    assert await tickets.redeem(await tickets.issue(identity)) == identity


@pytest.mark.gen_test
@pytest.mark.parametrize("stored", [b"", b"x", b"7", b"[]", b'["a", 1, 2]', b'["a", [], "soon"]'])
async def test_ticket_that_cannot_be_read_is_none(redis: Redis, stored: bytes) -> None:
    tickets = Tickets(redis, 30)
    ticket = await tickets.issue(alice())
    [key] = await redis.keys("*")
    await redis.set(key, stored)
    for use in (tickets.look, tickets.redeem):
        with pytest.raises(AuthError, match="the ticket cannot be read"):
            await use(ticket)


@pytest.mark.gen_test
async def test_what_cannot_be_a_ticket_is_not_looked_up(redis: Redis) -> None:
    tickets = Tickets(redis, 30)

    async def asked() -> Any:
        return (await redis.info("commandstats")).get("cmdstat_get", {}).get("calls", 0)

    before = await asked()
    for ticket in STRANGE:
        for use in (tickets.look, tickets.redeem):
            with pytest.raises(AuthError, match="not a ticket"):
                await use(ticket)
    assert await asked() == before


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    return settings


@pytest.mark.gen_test
async def test_ticket_buys_no_ticket(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        answer = await alice.as_user("").post(f"/api/auth/ticket?ticket={ticket}")
        assert answer.status == 403
        assert "ticket" not in answer.body


@pytest.mark.gen_test
async def test_answer_says_how_long_the_ticket_lives(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice", ttl=5)) as alice:
        assert 1 <= (await alice.post("/api/auth/ticket")).body["expires_in"] <= 5


@pytest.mark.gen_test
async def test_too_many_tickets_are_429(idle: Settings, make_token: Token) -> None:
    bounded = idle.changed(max_tickets_per_user=1)
    async with serving(bounded, make_token("alice")) as alice:
        assert (await alice.post("/api/auth/ticket")).status == 200
        refused = await alice.post("/api/auth/ticket")
        assert refused.status == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 30


UNSERVED = [
    ("OPTIONS", "/api/tasks", None, {}, 204),
    ("HEAD", "/api/notifications/stream", None, {}, None),
    ("PUT", "/api/tasks", b"{}", {}, 405),
    ("POST", "/api/tasks", b"x" * 2_000_000, {}, 413),
    ("POST", "/api/tasks", b"{}", {"Origin": "https://evil.example"}, 403),
    ("GET", "/api/ws/notifications", None, {}, None),
    ("GET", "/api/ws/notifications", None, {"Upgrade": "websocket", "Connection": "x"}, None),
    ("GET", "/nothing/here", None, {}, 404),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), UNSERVED)
async def test_request_that_is_not_served_spends_nothing(
    idle: Settings,
    make_token: Token,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int | None,
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        nobody = alice.as_user("")
        answer = await nobody.send(method, f"{path}?ticket={ticket}", body, headers)
        assert status is None or answer.status == status
        assert answer.status != 401
        assert (await nobody.get(f"/api/tasks?ticket={ticket}")).status == 200
        assert (await nobody.get(f"/api/tasks?ticket={ticket}")).status == 401


@pytest.mark.gen_test
async def test_request_over_the_rate_spends_nothing(idle: Settings, make_token: Token) -> None:
    async with serving(idle.changed(requests_per_second=1.0), "") as nobody:
        ticket = await Tickets(nobody.core.shared, 30).issue(alice())
        assert (await nobody.get("/api/tasks")).status == 401
        assert (await nobody.get(f"/api/tasks?ticket={ticket}")).status == 429

        async def served() -> int:
            return (await nobody.get(f"/api/tasks?ticket={ticket}")).status

        await until(served, what="the rate allows one more", equal=200, pause=0.3)


@pytest.mark.gen_test
async def test_body_that_turns_out_too_large_spends_nothing(
    idle: Settings, make_token: Token
) -> None:
    """Sent in chunks, its size is known when it has come."""
    async with serving(idle, make_token("alice")) as alice:
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(alice.url.split(":")[2]))
        head = f"POST /api/tasks?ticket={ticket} HTTP/1.1\r\nHost: x\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (2_000_000, b"x" * 2_000_000))
        assert b"413" in await reader.readline()
        writer.close()
        assert (await alice.as_user("").get(f"/api/tasks?ticket={ticket}")).status == 200


@pytest.mark.gen_test
async def test_ticket_of_an_event_stream_opens_it_again(
    settings: Settings, redis: Redis, database: Any, make_token: Token
) -> None:
    """An EventSource sends the same address again; nobody else may use it, for anything else."""
    async with serving(settings, make_token("alice")) as alice:
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        guest = alice.as_user("")
        path = f"/api/stream?topics=me&ticket={ticket}"
        place = ""
        for _ in range(3):
            stream = await guest.stream(path, **({"Last-Event-ID": place} if place else {}))
            assert stream.status == 200
            place = (await stream.event())["id"]
            await stream.close()
        # Polyfills add the place to the address.
        stream = await guest.stream(f"{path}&lastEventId={place}")
        assert stream.status == 200
        await stream.close()
        others = (
            f"/api/stream?topics=me,a&ticket={ticket}",
            f"/api/notifications/stream?ticket={ticket}",
            f"/api/notifications?ticket={ticket}",
        )
        for other in others:
            refused = await guest.get(other)
            assert refused.status == 401, other
            assert "another address" in refused.body["detail"]
        [kept] = [key async for key in redis.scan_iter("{rt}:ticket:*")]
        assert 3500 < await redis.ttl(kept) <= 3600
        stream = await guest.stream(path)
        assert stream.status == 200
        await stream.close()


@pytest.mark.gen_test
async def test_ticket_is_kept_for_one_address(redis: Redis) -> None:
    """The first request decides. A kept ticket does not count as waiting."""
    identity, tickets = alice(), Tickets(redis, 30, 1)
    ticket = await tickets.issue(identity)
    addresses = [f"/{number}" for number in range(5)]
    found = await asyncio.gather(
        *(tickets.keep(ticket, one) for one in addresses), return_exceptions=True
    )
    [kept] = [one for one, got in zip(addresses, found, strict=True) if got == identity]
    assert await tickets.keep(ticket, kept) == identity
    assert await tickets.look(ticket, kept) == identity
    for refused in (tickets.look(ticket), tickets.look(ticket, "/x"), tickets.keep(ticket, "/x")):
        with pytest.raises(AuthError, match="another address"):
            await refused
    # There is room for the next one, which takes the place of the one that is kept.
    second = await tickets.issue(identity)
    assert await tickets.keep(second, "/y") == identity
    with pytest.raises(AuthError, match="used or expired"):
        await tickets.keep(ticket, kept)
    assert await tickets.look(second, "/y") == identity
