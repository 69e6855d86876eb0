"""deploy/nginx.conf with TLS, by a real nginx: sockets, streams, idle ones, and under a prefix."""

import contextlib
import http.client
import json
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.certificates import Certificate, make_certificate
from tests.conftest import ROOT, ServerProcess, start_server, stop_server
from tests.forks import run
from tests.ports import free_port
from tests.proxying import CONFIGURATION, command_of, write_configuration
from tests.waiting import wait_until

# nginx gives up a connection on which nothing came for this long [s].
READ_SECONDS = 1
HEARTBEAT_SECONDS = 0.2


@attrs.frozen
class Site:
    """A server behind nginx: where clients find it, whom they trust, and how alice is known."""

    url: str
    plain_port: int
    trust: ssl.SSLContext
    token: str
    server: ServerProcess
    access_log: Path

    def ask(self, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        """Ask as alice; the answer is read to its end by `with` and `read`."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=60, context=self.trust
        )
        return answer

    def notify(self, title: str) -> None:
        """Send alice a notification."""
        body = {"user_id": "alice", "type": "alert", "title": title}
        with self.ask("/api/notifications", body) as answer:
            assert answer.status == 201


@pytest.fixture(scope="module", params=["", "/rt"], ids=["root", "prefix"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    server = start_server(
        folder / "data",
        RT_PREFIX=request.param,
        RT_TRUST_PROXY_HEADERS="true",
        RT_WORKER_CONCURRENCY="0",
        RT_DRAIN_SECONDS="0",
        RT_WS_HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS),
        RT_SSE_HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS),
    )
    token = run("token", "--user", "alice", RT_DATA_DIR=str(server.data_dir)).stdout.strip()
    certificate = make_certificate(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(stop_server, server)
        port, plain = stack.enter_context(running(folder, certificate, server))
        url = f"https://127.0.0.1:{port}{request.param}"
        access = folder / "nginx" / "access.log"
        found = Site(url, plain, certificate.client, token, server, access)
        wait_until(lambda: is_up(found), 60, "nginx passes on")
        yield found


@contextlib.contextmanager
def running(
    folder: Path, certificate: Certificate, server: ServerProcess
) -> Iterator[tuple[int, int]]:
    """Run nginx in front of a server; yield its two ports."""
    port, plain = free_port(), free_port()
    own = int(re.findall(r":(\d+)", server.url)[0])
    (folder / "nginx").mkdir()
    configuration = write_configuration(
        folder / "nginx",
        port,
        plain,
        (own, own),
        certificate=certificate.path,
        read_seconds=READ_SECONDS,
    )
    proxy = subprocess.Popen(command_of(configuration), stderr=subprocess.DEVNULL)
    try:
        yield port, plain
    finally:
        proxy.terminate()
        proxy.wait(30)


def is_up(site: Site) -> bool:
    try:
        with site.ask("/readyz") as answer:
            return answer.status == 200
    except OSError:
        return False


def past_the_timeout() -> float:
    """Return a time by which nginx has cut an idle connection [monotonic s]."""
    return time.monotonic() + 3 * READ_SECONDS


def test_idle_socket_stays_open_and_gets_what_comes(site: Site) -> None:
    protocols = [Subprotocol("rt.v1"), Subprotocol(f"auth.{site.token}")]
    address = f"{site.url.replace('https', 'wss')}/api/ws/notifications"
    with connect(address, subprotocols=protocols, ssl=site.trust) as socket:
        assert json.loads(socket.recv(60))["type"] == "connected"
        ends = past_the_timeout()
        while time.monotonic() < ends:
            assert json.loads(socket.recv(60))["type"] == "heartbeat"
        site.notify("by socket")
        received: dict[str, Any] = {}
        while received.get("type") != "notification":
            received = json.loads(socket.recv(60))
        assert received["data"]["title"] == "by socket"


def test_idle_stream_stays_open_and_gets_what_comes(site: Site) -> None:
    """Each event at once: nothing is kept until there is more of it."""
    with site.ask("/api/notifications/stream") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        ends = past_the_timeout()
        while time.monotonic() < ends:
            assert stream.readline()
        site.notify("by stream")
        while b"by stream" not in (line := stream.readline()):
            assert line


def test_request_has_one_id_in_the_answer_and_in_both_logs(site: Site) -> None:
    """The log of nginx has no query, and that of the server the client's address."""
    with site.ask("/api/notifications?limit=1&token=secret", **{"X-Request-Id": "mine"}) as answer:
        request_id = answer.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    wait_until(lambda: request_id in site.access_log.read_text(), 60)
    assert "secret" not in site.access_log.read_text()
    wait_until(lambda: request_id in site.server.log.read_text(), 60)
    logged = site.server.log.read_text().splitlines()
    [line] = [json.loads(one) for one in logged if request_id in one]
    assert (line["user_id"], line["address"]) == ("alice", "127.0.0.1")


def test_metrics_are_refused_and_plain_http_leads_to_tls(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        site.ask("/metrics")
    plain = http.client.HTTPConnection("127.0.0.1", site.plain_port, timeout=60)
    with contextlib.closing(plain):
        plain.request("GET", "/a?b=c")
        answer = plain.getresponse()
        assert (answer.status, answer.getheader("Location")) == (301, "https://127.0.0.1/a?b=c")


def test_page_of_docs_shows_the_file() -> None:
    shown = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/scaling.md").read_text(), re.DOTALL)
    assert shown == [CONFIGURATION.read_text()]
