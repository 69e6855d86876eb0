"""Common to every HTTP answer: headers, methods, origins, deadlines, labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from settings import Settings
from tests.api import Client, serving
from tests.certificates import make_certificate
from tests.test_security import served

Token = Callable[..., str]
APP = "https://app.example"


@pytest.fixture
def idle(settings: Settings, redis: Any, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


@pytest.fixture
def trusting(idle: Settings) -> Settings:
    """Settings of a server that trusts the pages of another origin."""
    return idle.changed(trusted_origins=[APP])


def paths() -> list[str]:
    """Return every address, with ids of nothing."""
    found = {name.partition(" ")[2] for name in served()}
    return sorted(one.replace("{id}", "none").replace("{path}", "index.html") for one in found)


@pytest.mark.gen_test
async def test_head_is_get_without_a_body(idle: Settings, make_token: Token) -> None:
    """On every address; of a stream it gets the headers, of a socket that it is one."""
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        task = await admin.submit()
        for path in [*paths(), f"/api/tasks/{task}", "/nothing"]:
            head = await admin.send("HEAD", path)
            assert not head.body
            if "/ws/" in path and not path.endswith("/stats"):
                assert (head.status, path, head.headers["Upgrade"]) == (426, path, "websocket")
            elif not path.endswith("/stream"):
                got = await admin.get(path)
                assert (head.status, path) == (got.status, path)
                assert head.headers["Content-Type"] == got.headers["Content-Type"]
        stream = await admin.send("HEAD", "/api/notifications/stream")
        assert (stream.status, stream.body) == (200, b"")
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert (await admin.get("/api/ws/stats")).body["total_connections"] == 0
        events = {"Accept": "text/event-stream"}
        assert (await admin.send("HEAD", f"/api/tasks/{task}", headers=events)).status == 200


@pytest.mark.gen_test
async def test_preflight_is_answered_on_every_address(trusting: Settings) -> None:
    """A trusted origin may send what it asks for; another learns nothing."""
    asked = "traceparent, tracestate, baggage, X-Requested-With, sentry-trace, b3"
    async with serving(trusting, "") as nobody:
        for path in [*paths(), "/nothing"]:
            headers = {
                "Origin": APP,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": asked,
            }
            answer = await nobody.send("OPTIONS", path, headers=headers)
            assert (answer.status, path) == (204, path)
            assert answer.headers["Access-Control-Allow-Origin"] == APP
            assert answer.headers["Access-Control-Allow-Headers"].endswith(asked)
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
            assert int(answer.headers["Access-Control-Max-Age"]) > 60
            assert "OPTIONS" in answer.headers["Allow"]
            foreign = await nobody.send("OPTIONS", path, headers=headers | {"Origin": "https://b"})
            assert (foreign.status, foreign.headers["Vary"]) == (204, "Origin")
            assert "Access-Control-Allow-Origin" not in foreign.headers
        odd = headers | {"Access-Control-Request-Headers": 'x"y, <b>'}
        answer = await nobody.send("OPTIONS", "/api/tasks", headers=odd)
        assert "<b>" not in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.gen_test
async def test_page_of_a_trusted_origin_reads_every_answer(
    trusting: Settings, make_token: Token
) -> None:
    """Also of what failed, and where a task is and when to come again."""
    limited = trusting.changed(queue_max_waiting_per_user=1)
    async with serving(limited, make_token("alice")) as alice:
        nobody = alice.as_user("")
        origin = {"Origin": APP}
        answers = [
            await alice.send("POST", "/api/tasks", {"symbol": "A"}, origin),
            await alice.send("POST", "/api/tasks", {"symbol": "A"}, origin),
            await alice.send("POST", "/api/tasks", {}, origin),
            await alice.send("POST", "/api/tasks", b"x" * 2_000_000, origin),
            await alice.send("PUT", "/api/tasks", {}, origin),
            await alice.send("GET", "/nothing", None, origin),
            await alice.send("GET", "/api/settings", None, origin),
            await nobody.send("GET", "/api/tasks", None, origin),
        ]
        assert [a.status for a in answers] == [202, 429, 422, 413, 405, 404, 403, 401]
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == APP
            assert "Origin" in answer.headers["Vary"].split(",")
            for name in ("Location", "Retry-After", "ETag", "X-Request-Id"):
                assert name in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.gen_test
async def test_ranges_of_a_file_are_those_of_rfc_9110(idle: Settings) -> None:
    """One that is none is passed over, and so is one that is meant for an earlier version."""
    async with serving(idle, "") as nobody:
        whole = (await nobody.get("/static/index.html")).body
        size = len(whole)
        for asked, status, body in [
            ("bytes=0-9", 206, whole[:10]),
            ("bytes=-5", 206, whole[-5:]),
            (f"bytes=9-{size * 2}", 206, whole[9:]),
            ("bytes=--5", 200, whole),
            ("bytes=+1-5", 200, whole),
            ("bytes=1_0-20", 200, whole),
            ("bytes=0-1,5-6", 200, whole),
            ("items=0-1", 200, whole),
            ("bytes=" + "9" * 5000 + "-", 200, whole),
        ]:
            answer = await nobody.get("/static/index.html", Range=asked)
            assert (answer.status, answer.body, asked[:20]) == (status, body, asked[:20])
        stale = {"Range": "bytes=0-9", "If-Range": '"earlier"'}
        assert (await nobody.get("/static/index.html", **stale)).body == whole
        for asked in (f"bytes={size}-", "bytes=-0"):
            answer = await nobody.get("/static/index.html", Range=asked)
            assert (answer.status, answer.body["status"], asked) == (416, 416, asked)
            assert answer.headers["Content-Range"] == f"bytes */{size}"
            assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.gen_test
async def test_answers_are_hardened(idle: Settings, make_token: Token, tmp_path: Path) -> None:
    """Private ones have no tag; none may be framed; the page has its own policy."""
    async with serving(idle, make_token("alice")) as alice:
        for path in ("/api/tasks", "/nothing", "/healthz", "/metrics"):
            answer = await alice.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert policy == "default-src 'none'; frame-ancestors 'none'"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "ETag" not in answer.headers
            assert "Strict-Transport-Security" not in answer.headers
        page = await alice.get("/")
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        again = await alice.get("/", **{"If-None-Match": page.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
    certificate = make_certificate(tmp_path)
    async with serving(idle.changed(tls_certificate=str(certificate.path)), "") as secure:
        request = HTTPRequest(secure.url + "/healthz", ssl_options=certificate.client)
        answer = await AsyncHTTPClient().fetch(request)
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.gen_test
async def test_answer_that_takes_too_long_is_503(
    idle: Settings, redis: Redis, make_token: Token
) -> None:
    """A handler that waits for a store is given up; an open stream is not."""
    # Long enough for the answers that need no store to wait for.
    hurried = idle.changed(request_timeout_seconds=1.5)
    async with serving(hurried, make_token("alice")) as alice:
        stream = await alice.stream("/api/notifications/stream")
        await stream.event()
        await redis.client_pause(60_000, all=False)
        answer = await alice.post("/api/tasks", {"symbol": "AAPL"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        await redis.client_unpause()
        assert (await alice.get("/api/tasks")).status == 200
        assert (await alice.get("/api/ws/stats")).body["total_connections"] == 1
        await stream.close()


@pytest.mark.gen_test
async def test_labels_of_metrics_and_log_lines_are_not_the_clients_words(
    idle: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(idle, "") as nobody:
        for number in range(3):
            await odd_method(nobody, f"METHOD{number}", "/" + "x" * 9000)
        text = (await nobody.get("/metrics")).body.decode()
    assert "METHOD" not in text
    assert 'rt_http_requests_total{method="other",status="405"} 3.0' in text or (
        'rt_http_requests_total{method="other",status="404"} 3.0' in text
    )
    assert "x" * 300 not in "".join(capsys.readouterr())


async def odd_method(client: Client, method: str, path: str) -> None:
    request = HTTPRequest(
        client.url + path, method=method, allow_nonstandard_methods=True, body=b""
    )
    await AsyncHTTPClient().fetch(request, raise_error=False)


@pytest.mark.gen_test
@pytest.mark.parametrize("most", [20_000, 0])
async def test_batch_may_be_as_large_as_the_operator_says(
    idle: Settings, make_token: Token, most: int
) -> None:
    bounds = {"queue_max_batch": most, "queue_max_waiting_per_user": 0}
    # A slow machine may take longer than requests do otherwise.
    roomy = idle.changed(**bounds, request_timeout_seconds=100.0)
    async with serving(roomy, make_token("alice")) as alice:
        made = await alice.post("/api/batches", {"symbols": ["AAPL"] * 9000})
        assert (made.status, made.body["submitted"]) == (202, 9000)
        assert (await alice.get("/api/queue/stats")).body["queued"] == 9000


@pytest.mark.gen_test
async def test_names_may_hold_what_users_write(idle: Settings, make_token: Token) -> None:
    """And not what breaks a line; a wrong query argument is told what it may be."""
    async with serving(idle, make_token("alice")) as alice:
        for symbol in ("a\u3000b", "👩‍💻", "ÉTÉ"):
            assert (await alice.post("/api/tasks", {"symbol": symbol})).status == 202
        for symbol in ("a\u2028b", "a\u0085", "\u0007"):
            assert (await alice.post("/api/tasks", {"symbol": symbol})).status == 422
        long = await alice.get("/api/notifications?before=" + "x" * 5000)
        assert (long.status, long.body["detail"]) == (400, "before must have at most 64 characters")
        key = {"Idempotency-Key": "k" * 256}
        refused = await alice.send("POST", "/api/tasks", {"symbol": "A"}, key)
        assert refused.body["detail"] == "Idempotency-Key must have 1 to 255 characters"


# Every argument that a query may have, by the address that takes it.
ARGUMENTS = {
    "/api/tasks": "kind status tag batch since until q before limit user",
    "/api/batches/{id}/tasks": "before limit",
    "/api/schedules": "user after limit",
    "/api/notifications": (
        "limit before status type page page_size state severity source since until q total"
    ),
    "/api/queue/dead": "limit offset",
    "/api/ws/stats": "scope",
}
REPEATABLE = {"/api/tasks": {"status"}, "/api/notifications": {"type", "severity"}}


@pytest.mark.gen_test
async def test_empty_query_argument_is_none(idle: Settings, make_token: Token) -> None:
    """Each alone, all together, and beside one with a value."""
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        await admin.submit()
        made = await admin.post("/api/batches", {"symbols": ["AAPL"]})
        for path, names in ARGUMENTS.items():
            address = path.replace("{id}", made.body.get("batch_id", ""))
            without = await admin.get(address)
            assert (without.status, address) == (200, address)
            each = [f"{name}=" for name in names.split()]
            several = ["limit=7&limit="] if "limit=" in each else []
            for query in (*each, "&".join(each), *several):
                answer = await admin.get(f"{address}?{query}")
                assert (answer.status, query) == (200, query), answer.body
                assert answer.body.keys() == without.body.keys()
                if "items" in without.body:
                    assert ids_in(answer.body) == ids_in(without.body)


def ids_in(body: dict[str, Any]) -> list[str]:
    return [one["task_id"] for one in body["items"]]


@pytest.mark.gen_test
async def test_repeated_query_argument_is_refused(idle: Settings, make_token: Token) -> None:
    """But where several values mean any of them."""
    async with serving(idle, make_token("root", scope="rt:admin")) as admin:
        made = await admin.post("/api/batches", {"symbols": ["AAPL"]})
        for path, names in ARGUMENTS.items():
            address = path.replace("{id}", made.body["batch_id"])
            for name in set(names.split()) - REPEATABLE.get(path, set()):
                answer = await admin.get(f"{address}?{name}=1&{name}=1")
                told = (answer.status, answer.body["detail"])
                assert told == (400, f"{name} must not be repeated")
