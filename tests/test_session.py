"""Sessions: a cookie in place of a token, for pages of the same site."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from settings import Settings
from tests.api import Client, frame, serving

Token = Callable[..., str]
PAGE = {"Sec-Fetch-Site": "same-origin"}


async def signed_in(client: Client) -> tuple[Client, str]:
    """Return a client without a token, and the cookie that a browser would send."""
    answer = await client.post("/api/auth/session")
    assert answer.status == 200, answer.body
    assert answer.body["user_id"] == "alice"
    [cookie] = answer.headers.get_list("Set-Cookie")
    pair, *attributes = cookie.split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes
    [age] = [one for one in attributes if one.startswith("Max-Age=")]
    assert 3500 < int(age.removeprefix("Max-Age=")) <= 3600
    return client.as_user(""), pair


@pytest.mark.gen_test
async def test_cookie_stands_for_the_token(
    settings: Settings, redis: Any, database: Any, make_token: Token
) -> None:
    """For requests, changes, event streams and sockets of a page of the same site."""
    async with serving(settings, make_token("alice")) as alice:
        page, cookie = await signed_in(alice)
        assert (await page.get("/api/notifications", Cookie=cookie)).status == 200
        sent = {"user_id": "alice", "type": "alert", "title": "hello"}
        made = await page.send("POST", "/api/notifications", sent, {"Cookie": cookie, **PAGE})
        assert made.status == 201
        stream = await page.stream("/api/stream?topics=me", Cookie=cookie)
        assert json.loads((await stream.event())["data"])["user_id"] == "alice"
        await stream.close()
        socket = await connect(page, {"Cookie": cookie, "Origin": page.url})
        assert (await frame(socket))["data"]["user_id"] == "alice"
        # A token counts before it.
        bob = alice.as_user(make_token("bob"))
        assert (await bob.get("/api/notifications", Cookie=cookie)).body["items"] == []


async def connect(client: Client, headers: dict[str, str]) -> Any:
    url = client.url.replace("http", "ws") + "/api/ws"
    socket = await websocket_connect(HTTPRequest(url, headers=headers))
    client.opened.append(socket)
    return socket


REFUSED = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", REFUSED)
async def test_change_by_cookie_must_come_from_a_page_of_ours(
    settings: Settings, redis: Any, database: Any, make_token: Token, headers: dict[str, str]
) -> None:
    async with serving(settings, make_token("alice")) as alice:
        page, cookie = await signed_in(alice)
        sent = {"user_id": "alice", "type": "alert", "title": "hello"}
        given = {"Cookie": cookie, **headers}
        assert (await page.send("POST", "/api/notifications", sent, given)).status == 403
        assert (await page.send("DELETE", "/api/tasks/none", None, given)).status == 403
        with pytest.raises(HTTPClientError, match="403"):
            await connect(page, given)
        assert (await alice.get("/api/notifications")).body["items"] == []


@pytest.mark.gen_test
async def test_cookie_ends_with_its_session_or_its_token(
    settings: Settings, redis: Any, database: Any, make_token: Token
) -> None:
    async with serving(settings, make_token("alice")) as alice:
        page, cookie = await signed_in(alice)
        out = await page.send("DELETE", "/api/auth/session", None, {"Cookie": cookie, **PAGE})
        assert out.status == 204
        [gone] = out.headers.get_list("Set-Cookie")
        assert gone.startswith('rt_session="";')
        [until] = [one for one in gone.split("; ") if one.startswith("expires=")]
        assert parsedate_to_datetime(until.removeprefix("expires=")) < datetime.now(UTC)
        assert "Path=/" in gone
        old = f"rt_session={make_token('alice', ttl=-5)}"
        assert (await page.get("/api/notifications", Cookie=old)).status == 401
        for empty in ("rt_session=", 'rt_session=""', "other=1", "="):
            assert (await page.get("/api/notifications", Cookie=empty)).status == 401


@pytest.mark.gen_test
async def test_only_a_token_buys_a_cookie(
    settings: Settings, redis: Any, database: Any, make_token: Token
) -> None:
    async with serving(settings, make_token("alice")) as alice:
        page, cookie = await signed_in(alice)
        again = await page.send("POST", "/api/auth/session", None, {"Cookie": cookie, **PAGE})
        assert again.status == 403
        ticket = (await alice.post("/api/auth/ticket")).body["ticket"]
        assert (await page.post(f"/api/auth/session?ticket={ticket}")).status == 403
        assert (await page.post("/api/auth/session")).status == 401
        long = alice.as_user(make_token("alice", topics=["x" * 100] * 40))
        refused = await long.post("/api/auth/session")
        assert (refused.status, "3500" in refused.body["detail"]) == (422, True)
