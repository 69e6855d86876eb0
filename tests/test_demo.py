"""The demo login: for this machine's own users, when it is asked for, and for nobody else."""

import asyncio
import json
import socket
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from settings import Settings
from tests.api import Client, serving
from tests.conftest import SECRET
from tornado_rt.demo import asks_directly, demo_refusal, is_loopback

ON = Settings(demo_login=True)


@pytest.fixture
def on(settings: Settings, redis: Redis, database: Any) -> Settings:
    return settings.changed(jwt_secret="", demo_login=True)


def test_demo_login_is_off_by_default() -> None:
    assert demo_refusal(Settings())
    assert demo_refusal(ON) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"jwt_secret": SECRET},
        {"jwt_public_key": "key.pem"},
        {"jwt_jwks_url": "https://provider.example/jwks"},
        {"trust_proxy_headers": True},
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.2"},
        {"host": "app.example"},
    ],
)
def test_demo_login_is_off_where_others_may_ask(change: dict[str, Any]) -> None:
    assert demo_refusal(attrs.evolve(ON, **change))


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *[(one, True) for one in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "::1%lo")],
        *[(one, True) for one in ("::ffff:127.0.0.1", "LOCALHOST")],
        *[(one, False) for one in ("0.0.0.0", "::", "", "10.0.0.1", "::ffff:10.0.0.1", "127.1")],
        *[(one, False) for one in ("localhost.example", "128.0.0.1", "fe80::1%lo")],
    ],
)
def test_loopback_addresses(host: str, here: bool) -> None:
    assert is_loopback(host) is here


async def login(client: Client, **headers: str) -> int:
    """Log in; GET says the same."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.send("POST", "/api/auth/demo", {"user_id": "bob"}, named)
    offered = await client.send("GET", "/api/auth/demo", headers=named)
    assert offered.body["enabled"] is (answer.status == 200)
    assert bool(offered.body["users"]) is (answer.status == 200)
    return answer.status


@pytest.mark.gen_test
async def test_token_of_the_demo_login_has_no_scope(on: Settings) -> None:
    """For any user."""
    async with serving(on, "") as nobody:
        users = (await nobody.get("/api/auth/demo")).body["users"]
        for user in {*users, "admin", "root"}:
            made = await nobody.post("/api/auth/demo", {"user_id": user})
            client = nobody.as_user(made.body["token"])
            assert (await client.get("/api/tasks")).status == 200
            assert (await client.get("/api/settings")).status == 403
            sent = {"user_id": "other", "type": "alert", "title": "x"}
            assert (await client.post("/api/notifications", sent)).status == 403


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", ["", "x" * 256, "a\nb", "\x7f", 5, None])
async def test_user_id_that_no_token_may_have_is_422(on: Settings, user_id: Any) -> None:
    async with serving(on, "") as nobody:
        refused = await nobody.post("/api/auth/demo", {"user_id": user_id})
        assert refused.status == 422


PROXY_HEADERS = [
    *("Forwarded", "Via", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Forwarded-Anything", "X-Forwarded", "Forwarded-For", "X-Client-Ip", "X-Cluster-Client-Ip"),
    *("Cf-Connecting-Ip", "Cf-Ray", "True-Client-Ip", "Fastly-Client-Ip", "X-Envoy-Internal"),
    *("X-Original-Host", "X-Original-Url", "X-Rewrite-Url", "X-Proxyuser-Ip", "Cdn-Loop"),
    *("X-Request-Id", "X-Scheme", "X-Amzn-Trace-Id", "X-Azure-Clientip", "Fly-Client-Ip"),
    *("Wl-Proxy-Client-Ip", "X-Appengine-User-Ip", "Proxy-Connection", "X-Nobody-Knows-This"),
]


@pytest.mark.gen_test
async def test_request_through_a_proxy_is_refused(on: Settings) -> None:
    """By any header that no browser and no plain client sends of itself, empty or not."""
    async with serving(on, "") as nobody:
        assert await login(nobody) == 200
        for name in PROXY_HEADERS:
            for value in ("127.0.0.1", ""):
                assert (name, await login(nobody, **{name: value})) == (name, 404)


DIRECT = {
    "Accept_Language": "de",
    "Authorization": "Bearer of.an.earlier.session",
    "Cache_Control": "no-cache",
    "Cookie": "a=b",
    "DNT": "1",
    "Priority": "u=1",
    "Sec_Fetch_Site": "same-origin",
    "Sec_Ch_Ua": '"Chromium"',
    "Sec_Gpc": "1",
    "Traceparent": "00-0-0-01",
    "Upgrade_Insecure_Requests": "1",
    "X_Requested_With": "fetch",
}


@pytest.mark.gen_test
async def test_browser_and_curl_are_served(on: Settings) -> None:
    async with serving(on, "") as nobody:
        port = nobody.url.rpartition(":")[2]
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            origin = f"http://{host}"
            headers = DIRECT | {"Host": host, "Origin": origin, "Referer": origin + "/"}
            assert (host, await login(nobody, **headers)) == (host, 200)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "evil.example"),
        ("Host", "localhost.evil.example"),
        ("Host", "127.0.0.1.evil.example"),
        ("Host", "[::2]"),
        ("Host", "192.168.1.2"),
        ("Referer", "https://app.example/"),
        ("Referer", "nonsense"),
        ("Referer", "http://[::1"),
    ],
)
async def test_another_name_of_this_machine_is_refused(on: Settings, name: str, value: str) -> None:
    """It may be a hostile page's, or a proxy's."""
    async with serving(on, "") as nobody:
        assert await login(nobody, **{name: value}) == 404


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("target", "version", "host", "status"),
    [
        ("/api/auth/demo", "1.1", "127.0.0.1", b"200"),
        # nginx that is told nothing but where to: no header of its own, the Host that it reaches.
        ("/api/auth/demo", "1.0", "127.0.0.1", b"404"),
        # The target would stand for the Host that the client was asked for.
        ("http://localhost/api/auth/demo", "1.1", "app.example", b"404"),
        ("HTTP://127.0.0.1/api/auth/demo", "1.1", "127.0.0.1", b"404"),
    ],
)
async def test_request_line_of_a_proxy_is_refused(
    on: Settings, target: str, version: str, host: str, status: bytes
) -> None:
    """No browser speaks HTTP/1.0, or names a server's own address in the target."""
    async with serving(on, "") as nobody:
        port = int(nobody.url.rpartition(":")[2])
        for method, expected in (("POST", status), ("GET", b"200")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({"user_id": "bob"}) if method == "POST" else ""
            head = f"{method} {target} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.read()
            assert expected in answer.partition(b"\r\n")[0]
            if method == "GET":
                assert (b'"enabled":true' in answer) == (status == b"200")
            writer.close()


@attrs.define
class Stream:
    socket: Any


@attrs.define
class Connection:
    stream: Stream
    in_absolute_form: bool = False


def request_over(sock: Any) -> HTTPServerRequest:
    connection: Any = Connection(Stream(sock))
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    request = HTTPServerRequest(
        headers=HTTPHeaders({"Host": "localhost"}), start_line=line, connection=connection
    )
    # As a header that is believed would have it.
    request.remote_ip = "127.0.0.1"
    return request


def test_peer_is_who_is_at_the_socket() -> None:
    """Not `remote_ip`; and behind a Unix socket there is a proxy."""
    here, there = socket.socketpair()
    with here, there:
        assert not asks_directly(request_over(here))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
    ):
        accepted, _ = server.accept()
        with accepted:
            assert asks_directly(request_over(accepted))
        # It is closed now.
        assert not asks_directly(request_over(accepted))
    assert not asks_directly(request_over(None))


def test_peer_of_a_socket_for_both_families_is_read_as_what_it_is() -> None:
    """`::ffff:127.0.0.1` is this machine."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6")
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])),
    ):
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == "::ffff:127.0.0.1"
            assert asks_directly(request_over(accepted))
