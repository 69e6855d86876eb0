"""A worker that is elsewhere, as tests speak for it: a socket, and what it says."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tornado.websocket import WebSocketClientConnection

from settings import Settings
from tests.api import Client, frame, serving

Frame = dict[str, Any]
Token = Callable[..., str]

FILM: Frame = {
    "kind": "film",
    "title": "Cut a film",
    "params_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "size": {"type": "integer", "default": 1}},
        "required": ["path"],
        "additionalProperties": False,
    },
    "label": "{path}",
    "plan": ["decode", {"name": "encode", "weight": 3, "title": "Encoding"}],
    "timeout": 600,
    "max_attempts": 3,
    "limits": {"limit": 50},
}


class RemoteWorker:
    """A connected worker. Messages are kept by their types until they are asked for."""

    def __init__(self, socket: WebSocketClientConnection, worker_id: str) -> None:
        self.socket = socket
        self.worker_id = worker_id
        self.waiting: list[Frame] = []
        self._refs = itertools.count(1)

    async def say(self, type_: str, **data: Any) -> int:
        """Send a message; return its ref."""
        ref = next(self._refs)
        await self.socket.write_message(json.dumps({"type": type_, "ref": ref, "data": data}))
        return ref

    async def ask(self, type_: str, **data: Any) -> Frame:
        """Send a message; return the whole answer to it."""
        ref = await self.say(type_, **data)
        return await self.next(lambda one: one.get("ref") == ref)

    async def work(self, kinds: Sequence[Any] = (FILM,), slots: int = 1, **more: Any) -> Frame:
        """Say what it works on; return what it is told."""
        answer = await self.ask(
            "work", worker_id=self.worker_id, kinds=list(kinds), slots=slots, **more
        )
        assert answer["type"] == "working", answer
        working: Frame = answer["data"]
        return working

    async def items(self, type_: str, *items: Any) -> list[Frame]:
        """Send items; return the answer to each."""
        answer = await self.ask(type_, items=list(items))
        assert answer["type"] == f"{type_}ed", answer
        told: list[Frame] = answer["data"]["items"]
        return told

    async def tasks(self, count: int = 1) -> list[Frame]:
        """Return the next tasks that it is sent."""
        found: list[Frame] = []
        while len(found) < count:
            found += (await self.next(lambda one: one["type"] == "tasks"))["data"]["items"]
        return found

    async def task(self) -> Frame:
        """Return the next task."""
        [task] = await self.tasks()
        return task

    async def event(self) -> Frame:
        """Return the next event."""
        one = await self.next(lambda one: one["type"] == "events")
        [event] = one["data"]["items"]
        told: Frame = event
        return told

    async def next(self, fits: Callable[[Frame], bool]) -> Frame:
        """Return the next frame that fits; others wait."""
        for one in self.waiting:
            if fits(one):
                self.waiting.remove(one)
                return one
        while not fits(one := await frame(self.socket)):
            self.waiting.append(one)
        return one

    async def closed(self) -> int | None:
        """Wait until the server has closed the socket; return the code."""
        while await asyncio.wait_for(self.socket.read_message(), 60) is not None:
            pass
        return self.socket.close_code

    def cut(self) -> None:
        """Lose the connection without a word."""
        protocol = self.socket.protocol
        assert protocol is not None
        assert protocol.stream is not None
        protocol.stream.close()


def lease(task: Frame, **more: Any) -> Frame:
    """Return an item about a task."""
    return {"task_id": task["task_id"], "token": task["token"], **more}


async def connect(client: Client, worker_id: str = "w1") -> RemoteWorker:
    """Open the socket of a worker."""
    socket = await client.socket("/api/ws/worker")
    first = await frame(socket)
    assert first["type"] == "connected", first
    return RemoteWorker(socket, worker_id)


@asynccontextmanager
async def office(settings: Settings, make_token: Token) -> AsyncIterator[tuple[Client, Client]]:
    """Run a server; give a client of its user alice, and one that may work."""
    async with serving(settings, make_token("alice")) as alice:
        yield alice, alice.as_user(make_token("machine", scope="rt:work"))


async def submit(client: Client, path: str = "a.mkv", **more: Any) -> str:
    """Submit a film; return the id of the task."""
    answer = await client.post("/api/tasks", {"kind": "film", "params": {"path": path}, **more})
    assert answer.status == 202, answer.body
    task_id: str = answer.body["task_id"]
    return task_id


async def read(client: Client, task_id: str) -> Frame:
    """Read a task."""
    answer = await client.get(f"/api/tasks/{task_id}")
    assert answer.status == 200, answer.body
    task: Frame = answer.body
    return task
