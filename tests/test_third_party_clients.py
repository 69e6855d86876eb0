"""Clients of others follow a task to its end as they come, also when they are cut off on the way.

`docs/clients.md` says of each how much of that it does by itself.
"""

import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.browsing import Relay
from tests.client_forms import SECONDS
from tests.conftest import ROOT, ServerProcess, program
from tests.made_once import made_once
from tests.waiting import wait_until
from tornado_rt_client import Client

pytestmark = pytest.mark.long

CLIENTS = ROOT / "tests" / "third_party"
INSTALL_SECONDS = 300
NODE = ["fetch-event-source", "ws", "reconnecting-websocket"]
PYTHON = ["httpx_sse_client", "websockets_client"]
EVENT_SOURCES = ["eventsource 2", "eventsource 3", "eventsource 4"]
COUNTS = [f"count {number}" for number in range(1, 6)]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the packages of the lock file once for all processes of pytest-xdist."""
    return made_once(tmp_path_factory, "third-party", install)


def install(folder: Path) -> None:
    """Install the packages of the lock file, beside the programs that import them."""
    command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    for path in filter(Path.is_file, CLIENTS.iterdir()):
        shutil.copy(path, folder / path.name)
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS
    )
    assert ended.returncode == 0, ended.stderr


@attrs.define
class Follower:
    """A process that follows a task, and what it has told so far."""

    process: "subprocess.Popen[str]"
    told: list[dict[str, Any]]
    reader: threading.Thread

    @classmethod
    def start(cls, command: list[str], folder: Path) -> "Follower":
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        told: list[dict[str, Any]] = []
        assert process.stdout is not None
        lines = process.stdout
        reader = threading.Thread(target=lambda: told.extend(map(json.loads, lines)))
        reader.start()
        return cls(process, told, reader)

    def messages(self) -> list[str]:
        """Return the messages of the progress, in the order in which they came."""
        return [one["message"] for one in self.told if one["type"] == "progress"]

    def types(self) -> list[str]:
        return [one["type"] for one in self.told]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for what it tells; it must not have failed meanwhile."""
        wait_until(lambda: condition() or self.process.poll() is not None, SECONDS, what)
        assert condition(), (what, self.told, self._complaints())

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.process.wait(SECONDS) == 0, self._complaints()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _complaints(self) -> str:
        assert self.process.stderr is not None
        return "" if self.process.poll() is None else self.process.stderr.read()


@attrs.frozen
class Story:
    """A task that counts when it is told to, a relay in front of its server, and its user."""

    client: Client
    task_id: str
    token: str
    relay: Relay
    gate: Path

    def count(self, number: int) -> None:
        """Have the task count one on; return once that is told."""
        self.gate.with_name(f"{self.gate.name}.{number}").touch()
        task = self.client.task(self.task_id)
        wait_until(lambda: task.read().message == f"count {number}", SECONDS)


@pytest.fixture
def story(client_server: ServerProcess, make_token: Any, tmp_path: Path) -> Iterator[Story]:
    gate = tmp_path / "gate"
    gate.touch()
    token = make_token("third-party")
    relay = Relay(client_server.url)
    with Client(client_server.url, token=token) as client:
        task = client.submit("client.gated", {"gate": str(gate)})
        yield Story(client, task.id, token, relay, gate)
        gate.unlink(missing_ok=True)
    relay.close()


@pytest.fixture
def follow(story: Story, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Follower]]:
    """A factory of followers of the task, by what stands in `docs/clients.md`."""
    started: list[Follower] = []

    def start(name: str) -> Follower:
        about = [story.relay.url, story.token, story.task_id]
        if name in PYTHON:
            command = [sys.executable, str(CLIENTS / f"{name}.py"), *about]
            started.append(Follower.start(command, CLIENTS))
        else:
            folder = request.getfixturevalue("installed")
            script, *version = name.split()
            command = [program("node"), f"{script}.mjs", *version, *about]
            started.append(Follower.start(command, folder))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("name", [*PYTHON, *EVENT_SOURCES, *NODE])
def test_client_follows_a_task_to_its_end(
    name: str, story: Story, follow: Callable[[str], Follower]
) -> None:
    """It sees each step once, and its program ends by itself after that."""
    follower = follow(name)
    follower.wait(lambda: "connected" in follower.types(), "it is connected")
    for number in range(1, 6):
        story.count(number)
        follower.wait(lambda n=number: follower.messages()[-1:] == [COUNTS[n - 1]], "it is told")
    story.gate.unlink()
    follower.end()
    follower.reader.join()
    assert follower.types()[-2:] == ["finished", "closed"]
    assert counts_of(follower) == COUNTS


@pytest.mark.parametrize("name", [*PYTHON, *EVENT_SOURCES, *NODE])
def test_client_that_was_cut_off_misses_nothing(
    name: str, story: Story, follow: Callable[[str], Follower]
) -> None:
    """Events while it was away come once, and in order."""
    follower = follow(name)
    follower.wait(lambda: "connected" in follower.types(), "it is connected")
    for number in (1, 2):
        story.count(number)
    follower.wait(lambda: follower.messages()[-1:] == ["count 2"], "it is told")
    story.relay.is_away = True
    story.relay.cut()
    for number in (3, 4):
        story.count(number)
    story.relay.is_away = False
    follower.wait(lambda: follower.messages()[-1:] == ["count 4"], "it is told what it missed")
    story.count(5)
    story.gate.unlink()
    follower.end()
    follower.reader.join()
    assert follower.types()[-2:] == ["finished", "closed"]
    assert counts_of(follower) == COUNTS


def counts_of(follower: Follower) -> list[str]:
    """Return the counts, none of which was told twice.

    A task that reports nothing for long has its snapshot made anew: that is another one.
    """
    told = [
        (one["message"], one["at"])
        for one in follower.told
        if one["type"] == "progress" and one["message"].startswith("count")
    ]
    assert len(set(told)) == len(told), told
    return [message for message, _ in itertools.groupby(message for message, _ in told)]
