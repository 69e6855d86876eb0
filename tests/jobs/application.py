"""An application with users, tokens and a server of tasks of its own, reached over HTTP."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import ROOT
from tests.ports import free_port
from tests.waiting import wait_until

SECONDS = 25.0
START_SECONDS = 40.0
STOP_SECONDS = 20.0
JOBS = Path(__file__).parent
SETTINGS = {
    "RT_QUEUE_USER_LIMIT": "0",
    "RT_QUEUE_GLOBAL_LIMIT": "0",
    "RT_WORKER_CONCURRENCY": "8",
    "RT_WORKER_GRACE_SECONDS": "0.5",
    "RT_DRAIN_SECONDS": "0",
    "RT_REQUESTS_PER_SECOND": "0",
    "RT_CALLBACK_ALLOW_PRIVATE": "true",
}


@attrs.frozen
class Answer:
    """An HTTP answer with its JSON, None for no body."""

    status: int
    headers: Any
    body: Any


@attrs.frozen
class Event:
    """An event of a stream."""

    id: str
    type: str
    data: Any


class Stream:
    """The events of one open stream, to be iterated once."""

    def __init__(self, response: Any) -> None:
        self.response = response

    def __iter__(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in self.response:
            name, mark, value = line.decode().rstrip("\n").partition(": ")
            if mark:
                fields[name] = value
            elif fields:
                yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                fields = {}

    def until(self, condition: Callable[[Any], bool]) -> Any:
        """Return the data of the next progress for which this holds."""
        for event in self:
            if event.type == "progress" and condition(event.data):
                return event.data
        raise AssertionError("the stream ended before")

    def close(self) -> None:
        self.response.close()


@attrs.frozen
class Application:
    """Where the server answers, the folder that it was started in, and who may ask."""

    url: str
    folder: Path
    environment: dict[str, str]
    key: rsa.RSAPrivateKey

    def token(self, user: str, scope: Any = "", **claims: Any) -> str:
        """Return a token as the application makes it for its own pages."""
        own = {"sub": user, "exp": time.time() + 600, "scope": scope, "name": "of the application"}
        return jwt.encode(own | claims, self.key, algorithm="RS256")

    def ask(
        self,
        user: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        scope: Any = "",
        token: str = "",
        **headers: str,
    ) -> Answer:
        """Send one request; in names of headers underscores stand for dashes."""
        given = {"Authorization": f"Bearer {token or self.token(user, scope)}"}
        given |= {"Accept": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                text = answer.read()
                return Answer(answer.status, answer.headers, json.loads(text) if text else None)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, refusal.headers, json.load(refusal))

    def submit(self, user: str, kind: str, params: dict[str, Any], **more: Any) -> str:
        """Submit a task; return its id."""
        answer = self.ask(user, "POST", "/api/tasks", {"kind": kind, "params": params, **more})
        assert answer.status == 202, answer
        task_id: str = answer.body["task_id"]
        return task_id

    def task(self, user: str, task_id: str) -> dict[str, Any]:
        """Return a task as it is now."""
        answer = self.ask(user, "GET", f"/api/tasks/{task_id}")
        assert answer.status == 200, answer
        task: dict[str, Any] = answer.body
        return task

    def tasks(self, asker: str, scope: Any = "", **query: str) -> list[dict[str, Any]]:
        """Return the first page of tasks that a query finds."""
        path = "/api/tasks?" + urllib.parse.urlencode(query)
        answer = self.ask(asker, "GET", path, scope=scope)
        assert answer.status == 200, answer
        items: list[dict[str, Any]] = answer.body["items"]
        return items

    @contextlib.contextmanager
    def follow(self, user: str, task_id: str) -> Iterator[Stream]:
        """Open the event stream of a task."""
        request = urllib.request.Request(
            f"{self.url}/api/tasks/{task_id}",
            headers={"Authorization": f"Bearer {self.token(user)}"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            yield Stream(response)

    def ended(self, user: str, task_id: str) -> dict[str, Any]:
        """Follow a task to its end; return it."""
        with self.follow(user, task_id) as stream:
            assert [event.type for event in stream][-1] == "finished"
        return self.task(user, task_id)

    def kinds(self) -> dict[str, Any]:
        """Return the kinds that there are, by their names."""
        items = self.ask("anybody", "GET", "/api/kinds").body["items"]
        return {item["kind"]: item for item in items}


def part(data: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `data` that are in `like`, to be compared with it."""
    return {name: data.get(name, "is not there") for name in like}


class Command:
    """`run.py` in the developer's folder, started and stopped as a supervisor does."""

    def __init__(self, app: Application, *arguments: str) -> None:
        self._app = app
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """The output of the application's commands."""
        return self._path.read_text()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; nobody waits for it yet."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RT_")}
        with self._path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *self._arguments],
                cwd=self._app.folder,
                env=environment | self._app.environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> int | None:
        """Stop it by SIGTERM, if it runs; return its exit status."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()

    @property
    def _path(self) -> Path:
        return self._app.folder.parent / "run.log"


@contextlib.contextmanager
def running_application(folder: Path, kinds: Sequence[str]) -> Iterator[Application]:
    """Run the server, started in a folder of the developer's that has these kinds and no more."""
    work = folder / "mywork"
    work.mkdir()
    for kind in kinds:
        shutil.copy(JOBS / f"{kind}.py", work)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "application.pem").write_bytes(public)
    port = free_port()
    environment = SETTINGS | {
        "RT_DATA_DIR": str(folder / "data"),
        "RT_PORT": str(port),
        "RT_JWT_PUBLIC_KEY": str(folder / "application.pem"),
    }
    app = Application(f"http://127.0.0.1:{port}", work, environment, key)
    server = Command(app, "--kinds", ",".join(kinds))
    server.start()
    try:
        wait_until(lambda: not server.running or _is_ready(app), START_SECONDS, "it is ready")
        assert server.running, server.log
        yield app
    finally:
        status = server.stop()
    errors = [line for line in server.log.splitlines() if '"level": "error"' in line]
    assert (status, errors) == (0, [])


def _is_ready(app: Application) -> bool:
    try:
        urllib.request.urlopen(app.url + "/readyz", timeout=2).close()
    except OSError:
        return False
    return True
