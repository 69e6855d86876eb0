"""Users with clients of every kind, and somebody who writes to them all the while."""

import asyncio
import collections
import contextlib
import itertools
import random
from collections.abc import Coroutine
from typing import Any, Self

from services.queue import Priority
from tests.faults.clients import ME, Client, key_of
from tests.faults.counts import Row, check
from tests.faults.fleet import OLD, PAIRS, WATCHING, Form
from tests.faults.handler import kind
from tests.faults.system import Server, System
from tests.waiting import until

SETTLE_SECONDS = 60.0
RETRY_SECONDS = 0.05
PAUSE_SECONDS = 0.03
TASK_SECONDS = (0.05, 0.4)
# A task is submitted too for each group of this many notifications.
TASK_EVERY = 6

_crowds = itertools.count()


class Crowd:
    """Each of `users` has two clients that follow their notifications, of all forms in turn.

    A client of any form follows each task. All acknowledged notifications are owed to each client
    of the user, once.
    """

    def __init__(self, system: System, rng: random.Random, users: int = 3) -> None:
        self.system = system
        self._rng = rng
        self._prefix = f"c{next(_crowds)}"
        self.users = [f"{self._prefix}u{number}" for number in range(users)]
        self.listeners: dict[str, list[Client]] = {}
        self.watchers: dict[str, Client] = {}
        # Most times that each message may come: more often when it was sent again because its
        # acknowledgement was lost.
        self._owed: dict[str, dict[str, int]] = collections.defaultdict(dict)
        self._numbers = itertools.count()
        self._stack = contextlib.AsyncExitStack()
        self._flow: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            for user, pair in zip(self.users, itertools.cycle(PAIRS)):
                forms = pair if self.system.is_current else OLD
                self.listeners[user] = [await self._enter(form, user, ME) for form in forms]
            await until(self.all_up, SETTLE_SECONDS, "everybody is connected")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pause()
        await self._stack.aclose()

    @property
    def clients(self) -> list[Client]:
        """All clients that listen to notifications."""
        return [client for clients in self.listeners.values() for client in clients]

    def server(self) -> Server:
        """Choose a running server."""
        return self._rng.choice([server for server in self.system.servers if server.running])

    def all_up(self) -> bool:
        """Say whether every listener is connected."""
        return all(client.up for client in self.clients)

    def reconnects(self) -> int:
        """Count how often listeners came back."""
        return sum(client.reconnects for client in self.clients)

    def flow(self, *, tasks: bool = True) -> None:
        """Begin to write to users, and to submit tasks, until `pause`."""
        self._flow = asyncio.create_task(self._write_on(tasks), name="flow")

    async def pause(self) -> None:
        """Write no more; what is under way is finished."""
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flow

    async def notify(self, user: str | None = None, server: Server | None = None) -> str:
        """Write one notification; repeat it until it is acknowledged. Return its title."""
        user = user or self._rng.choice(self.users)
        title = f"n{next(self._numbers)}"
        body = {"user_id": user, "type": "alert", "title": title, "dedupe_key": title}
        tries = 0
        while True:
            tries += 1
            answer = await self.system.ask(
                server or self.server(), "POST", "/api/notifications", user, body
            )
            if answer.status == 201:
                break
            await asyncio.sleep(RETRY_SECONDS)
        self._owed[user][title] = tries
        return title

    async def submit(
        self, seconds: float | None = None, user: str | None = None, form: Form | None = None
    ) -> str:
        """Submit a task, watch it, and owe its notification. Return its id."""
        user = user or self._rng.choice(self.users)
        seconds = self._rng.uniform(*TASK_SECONDS) if seconds is None else seconds
        task_id = await self._submitted(user, self._body(round(seconds, 2)))
        form = form or self._rng.choice(WATCHING if self.system.is_current else OLD)
        self.watchers[task_id] = await self._enter(form, user, f"task:{task_id}")
        self._owed[user][f"task:{task_id}"] = 1
        return task_id

    def forget_tasks(self) -> None:
        """Owe nothing about tasks any more: their Redis has lost them."""
        self.watchers.clear()
        for owed in self._owed.values():
            for key in [key for key in owed if key.startswith("task:")]:
                del owed[key]

    def news_to_all(self, since: float) -> bool:
        """Say whether every listener has had a message since then."""
        return all(client.journal.last_news > since for client in self.clients)

    async def stored_once(self) -> None:
        """Check in MongoDB that each acknowledged message is there once."""
        for user, owed in self._owed.items():
            stored = await self._stored(user)
            assert {key: stored[key] for key in owed} == dict.fromkeys(owed, 1)

    async def _stored(self, user: str) -> collections.Counter[str]:
        found: collections.Counter[str] = collections.Counter()
        following: str | None = ""
        while following is not None:
            path = "/api/notifications?limit=100" + (f"&before={following}" if following else "")
            answer = await self.system.ask(self.server(), "GET", path, user)
            if answer.status == 503:
                continue
            assert answer.status == 200, answer
            found.update(map(key_of, answer.body["items"]))
            following = answer.body["next"]
        return found

    def rows(self) -> list[Row]:
        """Count what was sent and received so far."""
        notifications, tasks, ends = Row("notifications"), Row("task news"), Row("task ends")
        for user, clients in self.listeners.items():
            for client in clients:
                got = client.journal.notifications
                of_tasks = {k: n for k, n in self._owed[user].items() if k.startswith("task:")}
                others = {k: n for k, n in self._owed[user].items() if k not in of_tasks}
                notifications.add(others, got, client.name)
                tasks.add(of_tasks, got, client.name)
        for task_id, watcher in self.watchers.items():
            ends.add({task_id: 1}, watcher.journal.ends, watcher.name)
        return [notifications, tasks, ends]

    def complete(self) -> bool:
        """Say whether nothing is missed."""
        for client in [*self.clients, *self.watchers.values()]:
            if client.failed is not None:
                raise client.failed
        return not any(row.missed for row in self.rows())

    def complete_but_tasks(self) -> bool:
        """Say whether no notification is missed that somebody wrote."""
        return not self.rows()[0].missed

    async def settle(self, seconds: float = SETTLE_SECONDS) -> list[Row]:
        """Wait until all that was sent has come, and check that nothing came twice."""
        await self.pause()
        with contextlib.suppress(AssertionError):
            await until(self.complete, seconds, "everything is there")
        rows = self.rows()
        check(rows)
        return rows

    async def _write_on(self, tasks: bool) -> None:
        for number in itertools.count(1):
            # Finish everything that was begun, so that all acknowledged messages are known.
            await _whole(self.notify())
            if tasks and number % TASK_EVERY == 0:
                await _whole(self.submit())
            await asyncio.sleep(PAUSE_SECONDS)

    def _body(self, seconds: float) -> dict[str, Any]:
        if self.system.is_current and self._rng.random() < 0.5:
            priority = self._rng.choice(list(Priority))
            return {"kind": kind.name, "params": {"seconds": seconds}, "priority": priority}
        return {"symbol": f"{seconds:.2f}"}

    async def _submitted(self, user: str, body: dict[str, Any]) -> str:
        headers = {"Idempotency-Key": f"{self._prefix}-{next(self._numbers)}"}
        while True:
            answer = await self.system.ask(
                self.server(), "POST", "/api/tasks", user, body, headers=headers
            )
            if answer.status == 202:
                return str(answer.body["task_id"])
            await asyncio.sleep(RETRY_SECONDS)

    async def _enter(self, form: Form, user: str, topic: str) -> Client:
        following = self.system.fleet.following(form, user, topic, server=self.server())
        return await self._stack.enter_async_context(following)


async def _whole(job: Coroutine[Any, Any, object]) -> None:
    """Finish the job also when we are cancelled meanwhile."""
    task = asyncio.ensure_future(job)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


WS = "/api/ws/notifications"
SSE = "/api/notifications/stream"
