"""Any request gets an answer, and none of them is a fault of ours.

A walk over routes, methods, headers and bodies, sent byte by byte to a running server. Its long
form is `make fuzz-http`. A failure prints the request and how to repeat it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import jwt
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.test_security import served

EXAMPLES = int(os.environ.get("RT_FUZZ_EXAMPLES", "600"))
ANSWER_SECONDS = 15.0
LAST_CHUNK = b"0\r\n\r\n"

METHODS = [
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "PROPFIND",
    "get",
    "A" * 99,
]
PATHS = sorted({name.partition(" ")[2] for name in served()})
ARGUMENTS = [
    *("limit", "before", "page", "page_size", "offset", "status", "type", "scope"),
    *("last_id", "lastEventId", "ticket", "token", "topics", "kind"),
    *("tag", "batch", "since", "until", "q", "user"),
]
# For each header what is likely to be half right.
HEADERS = {
    "Accept": ["application/json", "text/event-stream", "*/*;q=0", "/", ",,"],
    "Accept-Encoding": ["gzip", "br, *;q=0"],
    "Origin": ["http://[", "null", "https://app.example", "http://127.0.0.1", "http://a:b", "//"],
    "Host": ["[", "a:b", "localhost", "", "a" * 300, "[::1]:80", "exa\u00e4mple"],
    "Content-Type": [
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain; charset=x",
    ],
    "Content-Encoding": ["gzip", "identity"],
    "Last-Event-ID": ["e1-1", "e1-" + "9" * 400, "-", "e1--1", "\u0661-1"],
    "Idempotency-Key": ["k", "k" * 300],
    "Authorization": [
        "Basic eDp5",
        "Bearer",
        "Bearer x.y.z",
        "bearer  ",
        "Bearer \u00e4.\u00f6.\u00fc",
    ],
    "Cookie": ["a=b", "=;;=", 'a="', "$Version=1"],
    "Range": ["bytes=0-1,5-", "bytes=-", "bytes=9999999999999999999-", "bytes=5-1"],
    "If-None-Match": ["*", "W/x", '"'],
    "If-Modified-Since": ["now", "Thu, 01 Jan 0000 00:00:00 GMT", "Thu, 99 Jan 2026 00:00:00 GMT"],
    "Expect": ["100-continue", "200-ok"],
    "X-Forwarded-For": ["127.0.0.1", "x,,y"],
    "Upgrade": ["websocket", "h2c"],
    "Connection": ["Upgrade", "close", "keep-alive, Upgrade"],
    "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ==", "abc", ""],
    "Sec-WebSocket-Version": ["13", "8", "13, 8", "x"],
    "Sec-WebSocket-Protocol": ["rt.v1", "rt.v1, auth.x", ",", "auth."],
    "Sec-WebSocket-Extensions": ["permessage-deflate; server_max_window_bits=99", ";;", '="'],
    "Sec-Fetch-Site": ["cross-site", "same-origin", "x"],
    "Access-Control-Request-Method": ["POST", "x"],
    "Transfer-Encoding": ["chunked", "gzip", "chunked, chunked"],
}
FIELDS = [
    *(
        "symbol",
        "symbols",
        "params",
        "analysts",
        "research_depth",
        "llm_provider",
        "delay",
        "run_at",
    ),
    *("callback_url", "user_id", "type", "title", "content", "link", "source", "severity"),
    *("metadata", "dedupe_key", "notify_each", "sse_heartbeat_interval_seconds", "ids", "all"),
    *("kind", "label", "priority", "key", "unique", "while", "on_conflict", "tags", "timeout"),
    *("max_attempts", "budget_seconds", "notify", "items", "status", "user", "tag", "limit"),
    *("user_limit", "rate", "order"),
]
# Likely to be half right, beside anything at all.
WORDS = [
    *("", "AAPL", "alice", "market", "alert", "info", "null", "0", "1", "-1", "9" * 400, "1e400"),
    *("analysis", "queued", "failed", "highest", "reject", "waiting", "10/m", "10/0s", "fair"),
    *("e1-1", "e1-" + "9" * 5000, "2026-01-02T03:04:05Z", "0001-01-01T00:00:00+23:59", "websocket"),
    *(
        "http://[",
        "http://127.0.0.1:1/",
        "http://x:" + "9" * 30,
        "//evil",
        "/a\\b",
        "a\tb",
        "Upgrade",
    ),
    *(
        "permessage-deflate; server_max_window_bits=99",
        "chunked",
        "gzip",
        "bytes=0-1,5-",
        "W/x",
        "*",
    ),
    *(
        "Bearer x.y.z",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "13",
        "\u3000",
        "\x85",
        "ÿ" * 50,
        "ſ",
        "100-continue",
    ),
]
words = st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8"), max_size=60)
leaves = words | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(FIELDS) | words, inner, max_size=6)
    ),
    max_leaves=12,
)


def token(user: str, scope: str = "") -> str:
    claims = {"sub": user, "exp": time.time() + 86400, "scope": scope}
    return "Bearer " + jwt.encode(claims, SECRET, algorithm="HS256")


CREDENTIALS = ["", token("alice"), token("bob", "rt:publish"), token("root", "rt:admin")]


ODD_QUERIES = st.sampled_from(["limit=%ff", "a", "=", "%", "last_id=%00", "ticket=%00"])


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Return the path and query of a request."""
    path = draw(st.sampled_from([*PATHS, "/nothing/here", "//", "/static/../run.py"]))
    for name in ("{id}", "{path}", "{kind}"):
        filler = quote(draw(words), safe=draw(st.sampled_from(["", "/", "%"])))
        path = path.replace(name, filler or "x")
    path += draw(st.sampled_from(["", "", "", "/", "%00", "%ff", "%zz", "/%2e%2e/x"]))
    arguments = draw(st.lists(st.tuples(st.sampled_from(ARGUMENTS), words), max_size=3))
    encoded = [f"{name}={quote_from_bytes(text.encode())}" for name, text in arguments]
    encoded += draw(
        st.lists(st.sampled_from(["limit=%ff", "a", "=", "%", "last_id=%00"]), max_size=1)
    )
    return path + ("?" + "&".join(encoded) if encoded else "")


def encodings(value: Any) -> st.SearchStrategy[bytes]:
    whole = json.dumps(value).encode()
    return st.sampled_from([whole, whole[:-1], whole.replace(b"e", b"\xff")])


deep = st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
nested = st.integers(1, 500).map(lambda depth: b'{"metadata":' * depth + b"1" + b"}" * depth)
bodies = (
    st.just(b"")
    | st.dictionaries(st.sampled_from(FIELDS), values, max_size=5).flatmap(encodings)
    | values.flatmap(encodings)
    | deep
    | nested
    | st.binary(max_size=100)
)


@st.composite
def headers(draw: st.DrawFn) -> str:
    """Return a line of a header."""
    name = draw(st.sampled_from(sorted(HEADERS)))
    value = draw(st.sampled_from(HEADERS[name]) | words)
    return f"{name}: {value}".replace("\r", " ").replace("\n", " ")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a whole request of HTTP/1.1: odd, but with an end."""
    method = draw(st.sampled_from(METHODS[:4]) | st.sampled_from(METHODS))
    body = draw(bodies) if method in ("POST", "PUT", "PATCH", "DELETE") else b""
    given_headers = draw(st.lists(headers(), max_size=5))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]))
    lines = [f"{method} {draw(targets())} {version}"]
    if draw(st.integers(0, 9)):
        lines.append("Host: 127.0.0.1")
    if credentials := draw(st.sampled_from(CREDENTIALS)):
        lines.append(f"Authorization: {credentials}")
    if draw(st.integers(0, 4)):
        lines.append("Accept: application/json")
    # A body is announced by its length, and once: else its end would not be known.
    lines += [one for one in given_headers if not (body and one.startswith("Transfer"))]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    elif any(line.startswith("Transfer-Encoding") for line in lines):
        body = LAST_CHUNK
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without a bound on how often one address asks."""
    folder = tmp_path_factory.mktemp("walk")
    unbounded = {
        "RT_JWT_SECRET": SECRET,
        "RT_REQUESTS_PER_SECOND": "0",
        "RT_DRAIN_SECONDS": "0",
        "RT_QUEUE_MAX_WAITING_PER_USER": "0",
    }
    server = start_server(folder / "data", **unbounded)
    yield server
    assert stop_server(server) == 0


def send(server: ServerProcess, data: bytes, *, is_all: bool) -> bytes:
    """Send bytes and return the head of the answer; `is_all`: say that nothing follows."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as sock:
        received = b""
        try:
            sock.sendall(data)
            if is_all:
                sock.shutdown(socket.SHUT_WR)
            while b"\r\n\r\n" not in received:
                piece = sock.recv(65536)
                if not piece:
                    break
                received += piece
        except ConnectionError:
            # Reset when all was said that it had to say.
            pass
        return received


def check(server: ServerProcess, data: bytes, *, is_all: bool) -> bytes:
    """Send bytes; return the head of the answer, which is no fault of ours."""
    logged = server.log.stat().st_size
    answer = send(server, data, is_all=is_all)
    note(f"sent: {data!r}")
    note(f"answer: {answer[:300]!r}")
    said = server.log.read_bytes()[logged:].decode(errors="replace")
    assert "Traceback" not in said, said[said.index("Traceback") :][:3000]
    if answer:
        assert answer.startswith(b"HTTP/1."), answer[:100]
        assert int(answer[9:12]) < 500, answer[:300]
    return answer


walk = settings(
    max_examples=EXAMPLES,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@walk
@given(data=requests())
def test_every_request_is_answered_and_none_by_a_fault(server: ServerProcess, data: bytes) -> None:
    assert check(server, data, is_all=False), "no answer"


@walk
@given(data=st.binary(max_size=300) | requests().flatmap(lambda whole: _broken(whole)))
def test_garbage_ends_only_its_own_connection(server: ServerProcess, data: bytes) -> None:
    check(server, data, is_all=True)


def _broken(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a request of which some bytes are other ones, or missing."""
    at = st.integers(0, len(whole))
    return st.tuples(at, st.binary(max_size=8), at).map(
        lambda cut: whole[: cut[0]] + cut[1] + whole[max(cut[0], cut[2]) :]
    )
