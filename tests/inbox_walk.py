"""The inbox walk: four processes do operations at random while stores and processes fail; at quiet
points the store, the lists, all devices and a model of each user are the same.
"""

import asyncio
import contextlib
import functools
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import orjson
from pymongo import MongoClient

from services.notifications.indexes import INBOX, USERS
from tests.faults.system import MongoServer, RedisServer
from tests.forks import Fork, start
from tests.inbox_board import PROCESSES, Board
from tests.inbox_history import History, Stored
from tests.inbox_model import Wrong
from tests.inbox_process import QUOTA, Task, serve
from tornado_rt.protocol import iso_time

COMMAND_SECONDS = 180.0
# Longer than others wait until they finish an operation; a device is connected at most this long.
FROZEN_SECONDS = (0.05, 0.7)
DEVICE_SECONDS = 8.0
# Time between two faults, when each must be soon [s].
PAUSE_SECONDS = 1.5
# The clock looks each second; a busy machine is later.
OVERDUE = timedelta(seconds=3)
LOG_TAIL, STACKS_TAIL = 30, 400


@attrs.define(eq=False)
class Runner:
    """One process of the walk, over all its starts."""

    number: int
    walk: "Walk"
    starts: int = 0
    # None while we kill it.
    fork: Fork | None = None
    _writer: asyncio.StreamWriter | None = None
    # The orders that it has not yet done.
    _told: bytes = b""
    _done: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def log(self) -> Path:
        return self.walk.folder / f"process-{self.number}.log"

    def start(self) -> None:
        """Start it; it goes on with what it was told."""
        task = Task(
            process=self.number,
            start=self.starts,
            seed=self.walk.seed,
            users=self.walk.users,
            folder=str(self.walk.folder),
            redis_url=self.walk.redis.url,
            mongodb_url=self.walk.mongodb.url,
        )
        environment = {"PATH": os.environ["PATH"]}
        self.fork = start(functools.partial(serve, task), environment, self.log)

    def signal(self, number: int) -> None:
        assert self.fork is not None
        self.fork.send_signal(number)

    async def kill(self) -> None:
        """End it at once, and start another in its place."""
        fork, self.fork, self._writer = self.fork, None, None
        assert fork is not None
        fork.kill()
        await asyncio.to_thread(fork.wait)
        self.starts += 1
        self.start()

    def connected(self, hello: Mapping[str, int], writer: asyncio.StreamWriter) -> None:
        """Learn that it listens."""
        if hello["start"] == self.starts:
            self._writer = writer
            if self._told:
                writer.write(self._told)

    def did(self, answer: Mapping[str, Any]) -> None:
        """Learn that it has done what it was told."""
        if answer["start"] == self.starts:
            self._told = b""
            self._done.set()

    async def tell(self, do: str, **arguments: Any) -> None:
        """Tell it to do something; return when it has. Raise Wrong when it ends by itself."""
        self._done.clear()
        self._told = orjson.dumps({"do": do, "with": arguments}) + b"\n"
        if self._writer is not None:
            self._writer.write(self._told)
        deadline = time.monotonic() + COMMAND_SECONDS
        while not self._done.is_set():
            if self.fork is not None and self.fork.poll():
                raise self._wrong(f"process {self.number} ended in {do}", LOG_TAIL)
            if time.monotonic() > deadline:
                self.signal(signal.SIGUSR1)
                await asyncio.sleep(1)
                raise self._wrong(f"process {self.number} does not get on with {do}", STACKS_TAIL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._done.wait()

    def _wrong(self, why: str, tail: int) -> Wrong:
        return Wrong("\n".join([why, *self.log.read_text().splitlines()[-tail:]]))


@attrs.define(eq=False)
class Walk:
    """The stores, the processes, and what is known of what they did."""

    seed: int
    users: list[str]
    folder: Path
    redis: RedisServer
    mongodb: MongoServer
    rng: random.Random
    history: History
    board: Board
    pause: float
    faults: dict[str, int] = attrs.field(factory=dict)
    runners: list[Runner] = attrs.field(factory=list)

    async def go(self, operations: int, *, with_faults: bool = True) -> None:
        """Do operations, then compare all with all. Raise Wrong."""
        share = -(-operations // PROCESSES)
        shares = [self.board.done(one.number) + share for one in self.runners]
        going = asyncio.gather(
            *(
                one.tell("go", share=share, seconds=DEVICE_SECONDS)
                for one, share in zip(self.runners, shares, strict=True)
            )
        )
        await self._harm_while(going, with_faults)
        await self.compare()

    async def compare(self) -> None:
        """Let all come to rest, and compare. Raise Wrong."""
        await self._all("stop")
        due = datetime.now(UTC) - OVERDUE
        await self.runners[0].tell("tidy")
        await self._all("show")
        for path in sorted(self.folder.glob("notes-*")):
            self.history.read(path)
            if int(path.name.split("-")[2]) < self.runners[int(path.name.split("-")[1])].starts:
                path.unlink()
        self.history.compare(await asyncio.to_thread(self._read_store))
        for one in self.runners:
            shown = self.folder / f"shown-{one.number}"
            self.history.compare_shown(orjson.loads(shown.read_bytes()))
        self.history.compare_rest(QUOTA, iso_time(due))
        self.history.forget()
        await self._all("forget")

    async def _all(self, do: str) -> None:
        await asyncio.gather(*(one.tell(do) for one in self.runners))

    async def _harm_while(self, going: "asyncio.Future[Any]", with_faults: bool) -> None:
        while with_faults and not going.done():
            await asyncio.wait([going], timeout=self.rng.uniform(0.2, self.pause))
            if not going.done():
                name = self.rng.choices(list(FAULTS), list(FAULTS.values()))[0]
                self.faults[name] = self.faults.get(name, 0) + 1
                await HARM[name](self)
        await going

    def _read_store(self) -> dict[str, Stored]:
        with MongoClient[dict[str, Any]](self.mongodb.url, tz_aware=True) as client:
            database = client["walk"]
            accounts = {one["_id"]: one for one in database[USERS].find()}
            documents: dict[str, list[dict[str, Any]]] = {user: [] for user in self.users}
            for one in database[INBOX].find():
                documents[one["user_id"]].append(one)
        return {user: Stored.of(user, accounts.get(user), documents[user]) for user in self.users}

    async def kill(self) -> None:
        """Kill a process."""
        await self.rng.choice(self.runners).kill()

    async def freeze(self) -> None:
        """Let a process stand still until others take it for dead, or less."""
        runner = self.rng.choice(self.runners)
        runner.signal(signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(*FROZEN_SECONDS))
        runner.signal(signal.SIGCONT)

    async def freeze_and_kill(self) -> None:
        """Let a process stand still, and kill it when it has just gone on."""
        runner = self.rng.choice(self.runners)
        runner.signal(signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(*FROZEN_SECONDS))
        runner.signal(signal.SIGCONT)
        await asyncio.sleep(self.rng.uniform(0, 0.02))
        await runner.kill()

    async def kill_redis(self) -> None:
        """Kill Redis, and start it again."""
        await self.redis.kill()
        await asyncio.sleep(self.rng.uniform(0, 0.4))
        await self.redis.restart()

    async def freeze_mongodb(self) -> None:
        """Let MongoDB stand still for a second or less."""
        self.mongodb.freeze()
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        self.mongodb.thaw()

    async def kill_mongodb(self) -> None:
        """Kill MongoDB, and start it on what it had written."""
        await self.mongodb.kill()
        await self.mongodb.restart()


# Each fault: its share, and its action.
FAULTS = {
    "kill": 4,
    "freeze": 6,
    "freeze_and_kill": 3,
    "kill_redis": 2,
    "freeze_mongodb": 2,
    "kill_mongodb": 0.5,
}
HARM: dict[str, Callable[[Walk], Awaitable[None]]] = {name: getattr(Walk, name) for name in FAULTS}


@contextlib.asynccontextmanager
async def walking(seed: int, users: int, pause: float = PAUSE_SECONDS) -> AsyncIterator[Walk]:
    """Start stores and processes; end all of them. `pause` is the longest between two faults."""
    names = [f"user{number}" for number in range(users)]
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-inbox-")))
        redis, mongodb = RedisServer(folder), MongoServer(folder)
        for store in (redis, mongodb):
            store.start()
            stack.push_async_callback(store.kill)
        await asyncio.gather(redis.ready(), mongodb.ready())
        board = Board(folder / "board", names)
        rng = random.Random(f"{seed}-faults")
        walk = Walk(seed, names, folder, redis, mongodb, rng, History(names), board, pause)
        server = await asyncio.start_unix_server(
            functools.partial(_serve, walk), str(folder / "control")
        )
        stack.callback(server.close)
        for number in range(PROCESSES):
            runner = Runner(number, walk)
            walk.runners.append(runner)
            runner.start()
            stack.callback(_end, runner)
        yield walk


def _end(runner: Runner) -> None:
    if runner.fork is not None:
        runner.fork.kill()
        runner.fork.wait()


async def _serve(walk: Walk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    hello = orjson.loads(await reader.readline())
    runner = walk.runners[hello["process"]]
    runner.connected(hello, writer)
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while line := await reader.readline():
            runner.did(orjson.loads(line))
    writer.close()
