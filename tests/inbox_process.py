"""One process of the inbox walk: the service, the backplane, the hub and its devices, as a server
has them, and operations at random. It does what it is told over a socket and notes all in a file.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import orjson

from services.notifications import (
    ListState,
    NotificationDraft,
    NotificationNotFound,
    NotificationService,
    NotificationStatus,
    NotificationType,
    Query,
    Verb,
    intents,
    pages,
)
from services.notifications import ledger as ledgers
from services.notifications.intents import Committed, Due, Trim
from tests.inbox_board import PROCESSES, Board
from tests.inbox_device import EVERYTHING, LATER, Device
from tests.inbox_model import GONE_SECONDS, STARTS, view_of
from tests.inbox_notes import Noted, Notes, asked, asking
from tests.realtime import open_hub
from tests.stacks import show_tasks
from tests.waiting import until
from tornado_rt.jobs import Jobs
from tornado_rt.log_watch import LogWatch
from tornado_rt.mongo import MongoAccess, open_database
from tornado_rt.protocol import iso_time
from tornado_rt.redis import open_redis

DEVICES = 3
QUOTA = 30
REPLAY_LIMIT = 40
# Number of operations that each process does at once.
TOGETHER = 24
# Operations that are under way have this long at a stop [s].
STOP_SECONDS = 60.0
CHECK_SECONDS = 0.3
# The share of operations that are about the first user.
HOT = 0.15
# And up to there, those that are about users whom the other processes ask for less.
OWN = 0.6
# The stores may be away for this long in one go [s].
AWAY_SECONDS = 60.0
KEYS = 3
EVENTS = 4
NOBODY = "0" * 24
# For how long what takes a change back is used [s]: what was removed is known a little longer.
UNDO_SECONDS = 12.0
# Within this time some end [s]; the product adds up to 5 s.
NEAR = (0.2, 4.0)


@attrs.frozen(kw_only=True)
class Task:
    """The orders of a process at its start."""

    process: int
    start: int
    seed: int
    users: list[str]
    folder: str
    redis_url: str
    mongodb_url: str


class NotedService(NotificationService):
    """The service, with all that it commits noted."""

    def __init__(
        self, *arguments: Any, notes: Notes, board: Board, first: int, **named: Any
    ) -> None:
        self._notes = notes
        self._board = board
        self._numbers = itertools.count(first)
        self.under_way = 0
        super().__init__(*arguments, **named)

    async def _commit(self, intent: Any) -> Committed:
        number = next(self._numbers)
        self.under_way += 1
        try:
            outcome = await super()._commit(Noted(intent, number, self._notes, asked.get()))
        except NotificationNotFound:
            raise
        except BaseException as error:
            self._notes.write("doubt", intent.user_id, number, repr(error))
            raise
        finally:
            self.under_way -= 1
        self._notes.write("done", intent.user_id, number)
        if isinstance(intent, Due | Trim):
            self._board.add_done()
        return outcome


@attrs.define(eq=False)
class Walker:
    """Does operations at random."""

    task: Task
    service: NotedService
    board: Board
    notes: Notes
    rng: random.Random
    # Ids of each user that were seen of late, and what takes back their last changes.
    ids: dict[str, deque[str]] = attrs.field(factory=dict)
    undos: dict[str, deque[tuple[float, str]]] = attrs.field(factory=dict)
    titles: Iterator[int] = attrs.field(factory=itertools.count)

    async def walk(self, share: int) -> None:
        """Do operations until the process has done its share of them."""
        while self.board.done(self.task.process) < share:
            self.board.add_done()
            name = self.rng.choices(list(STEPS), list(STEPS.values()))[0]
            try:
                await getattr(self, name)(self.user())
            except (*LATER, NotificationNotFound):
                await asyncio.sleep(0.01)

    def user(self) -> str:
        users, which = self.task.users, self.rng.random()
        if which < HOT:
            return users[0]
        # Fewer conflicts, so that as many operations are done in less time.
        return self.rng.choice(users[self.task.process :: PROCESSES] if which < OWN else users)

    def some(self, user: str, most: int = 4) -> list[str]:
        known = self.ids.setdefault(user, deque(maxlen=40))
        found = [self.rng.choice(known) for _ in range(self.rng.randint(1, most)) if known]
        return found or [NOBODY]

    async def create(self, user: str) -> None:
        rng = self.rng
        # Each has a title of its own.
        title = f"{self.task.process}.{self.task.start}.{next(self.titles)}"
        key = f"key{rng.randrange(KEYS)}" if rng.random() < 0.3 else None
        event = f"{user}-{rng.randrange(EVENTS)}" if rng.random() < 0.15 else None
        end = datetime.now(UTC) + timedelta(seconds=rng.uniform(*NEAR))
        draft = NotificationDraft(
            user_id=user,
            type=NotificationType.SYSTEM,
            title=title,
            dedupe_key=key,
            expires_at=iso_time(end) if rng.random() < 0.15 else None,
        )
        made = await self.service.create(draft, event_id=event)
        self.some(user)
        self.ids[user].append(made.id)

    async def act(self, user: str) -> None:
        verb = self.rng.choice(VERBS)
        await self._note(user, self.service.act(user, verb, self.some(user), self._until()))

    async def act_on(self, user: str) -> None:
        verb = self.rng.choice(VERBS)
        id_ = self.some(user)[0]
        await self.service.act_on(user, verb, id_, self._until())

    async def act_where(self, user: str) -> None:
        verb, rng = self.rng.choice(VERBS), self.rng
        state, status = rng.choice(list(ListState)), rng.choice([None, None, *NotificationStatus])
        word = rng.choice(["", "", str(rng.randrange(10))])
        query = Query(state=state, status=status, words=[word] if word else ())
        with asking(self.board.floor(user), state, status, word, next(self.titles)):
            await self._note(user, self.service.act_where(user, verb, query, self._until()))

    async def read_all(self, user: str) -> None:
        floor, unread = self.board.floor(user), NotificationStatus.UNREAD
        with asking(floor, ListState.INBOX, unread, "", next(self.titles)):
            await self._note(user, self.service.read_all(user))

    async def undo(self, user: str) -> None:
        known = self.undos.setdefault(user, deque(maxlen=20))
        while known and known[0][0] < time.monotonic() - UNDO_SECONDS:
            known.popleft()
        if known:
            await self._note(user, self.service.undo(user, self.rng.choice(known)[1]))

    async def look(self, user: str) -> None:
        state, floor = self.rng.choice(list(ListState)), self.board.floor(user)
        page = await self.service.find(user, attrs.evolve(EVERYTHING, state=state))
        views = [view_of(one.to_dict()) for one in page.items]
        self.notes.listed(user, state.value, floor, page, views)
        self.board.raise_floor(user, page.version)
        self.some(user)
        self.ids[user].extend(view[0] for view in views[:10])

    async def count(self, user: str) -> None:
        self._keep(user, self.board.floor(user), await self.service.counts(user))

    async def _note(self, user: str, doing: Any) -> None:
        floor = self.board.floor(user)
        done = await doing
        self._keep(user, floor, done.counts)
        if done.undo is not None:
            known = self.undos.setdefault(user, deque(maxlen=20))
            known.append((time.monotonic(), done.undo))

    def _keep(self, user: str, floor: int, counts: dict[str, int]) -> None:
        version = counts["version"]
        self.notes.counts(user, version, counts["unread"], counts["unseen"])
        if version < floor:
            self.notes.fail(f"counts of {user} are of {version}, though {floor} was known")
        self.board.raise_floor(user, version)

    def _until(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.rng.uniform(0.1, 4))


VERBS = [
    *(Verb.SEEN, Verb.SEEN, Verb.READ, Verb.READ, Verb.UNREAD, Verb.ARCHIVE, Verb.UNARCHIVE),
    *(Verb.SNOOZE, Verb.UNSNOOZE, Verb.PIN, Verb.UNPIN, Verb.UNPIN, Verb.DELETE),
]
STEPS = {
    "create": 38,
    "act": 28,
    "act_on": 8,
    "act_where": 4,
    "read_all": 2,
    "undo": 6,
    "look": 6,
    "count": 8,
}


@attrs.define(eq=False)
class Process:
    """All that a server has for the inbox, and what it is told to do with it."""

    task: Task
    service: NotedService
    walker: Walker
    devices: list[Device]
    notes: Notes
    folder: Path
    _jobs: list[asyncio.Task[Any]] = attrs.field(factory=list)

    async def go(self, share: int, seconds: float) -> None:
        """Do operations up to a share, with all upkeep, and with devices that are cut."""
        await self._end_jobs()
        running: list[Any] = [self.service.run_clock(), self.service.run_trimmer()]
        running += [one.stay(self.walker.rng, seconds) for one in self.devices]
        running.append(self._keep_devices())
        self._jobs = [asyncio.create_task(one) for one in running]
        await asyncio.gather(*(self.walker.walk(share) for _ in range(TOGETHER)))

    async def stop(self) -> None:
        """End the upkeep; what is under way is done."""
        await self._end_jobs()
        self._jobs = [asyncio.create_task(one.hold()) for one in self.devices]
        await until(lambda: not self.service.under_way, STOP_SECONDS, "what is under way is done")

    async def _end_jobs(self) -> None:
        for job in self._jobs:
            job.cancel()
        for result in await asyncio.gather(*self._jobs, return_exceptions=True):
            if isinstance(result, Exception):
                self.notes.fail(f"a job ended with {result!r}")

    async def tidy(self) -> None:
        """Do what is due, and trim all that have more than the quota."""
        await _patiently(self.service.do_due)
        for user in self.task.users:
            # Every change looks whether there are too many.
            await _patiently(partial(self.service.act, user, Verb.SEEN, [NOBODY]))
        await _patiently(self.service.trim_pending)

    async def show(self) -> None:
        """Write down what lists, counts and devices say now."""
        await asyncio.gather(*(one.settle() for one in self.devices))
        users: dict[str, Any] = {}
        for user in self.task.users:
            page = await self.service.find(user, EVERYTHING)
            views = [view_of(one.to_dict()) for one in page.items]
            users[user] = {
                "views": views,
                "counts": [page.version, page.unread, page.unseen],
                "asked": await self.service.counts(user),
            }
        devices = [{"name": one.name, "user": one.user, **one.state()} for one in self.devices]
        self._write("shown", {"users": users, "devices": devices})

    async def forget(self) -> None:
        """Forget what was noted: it has been compared."""
        self.notes.forget()
        self._keep()

    def go_on(self) -> None:
        """Have devices go on from where the process before was when they were kept."""
        path = self.folder / f"devices-{self.task.process}"
        states = orjson.loads(path.read_bytes()) if path.exists() else {}
        for device in self.devices:
            if device.name in states:
                device.go_on(states[device.name])

    async def _keep_devices(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._keep()

    def _keep(self) -> None:
        self._write("devices", {one.name: one.state() for one in self.devices})

    def _write(self, name: str, what: Any) -> None:
        path = self.folder / f"{name}-{self.task.process}"
        path.with_suffix(".new").write_bytes(orjson.dumps(what))
        path.with_suffix(".new").rename(path)


def serve(task: Task) -> None:
    """Run a process until its socket is closed."""
    os.nice(10)
    # Else nobody would see in a walk what becomes of what was removed.
    # A page must be old long before that.
    pages.SECONDS = 5.0
    ledgers.GONE_FOR, intents.ALMOST = timedelta(seconds=GONE_SECONDS), timedelta(seconds=2)
    asyncio.run(_serve(task))


async def _serve(task: Task) -> None:
    folder = Path(task.folder)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show_tasks)
    async with _process(task) as process:
        reader, writer = await asyncio.open_unix_connection(str(folder / "control"))
        writer.write(orjson.dumps({"process": task.process, "start": task.start}) + b"\n")
        while line := await reader.readline():
            told = json.loads(line)
            await getattr(process, told["do"])(**told.get("with", {}))
            writer.write(orjson.dumps({"did": told["do"], "start": task.start}) + b"\n")


@contextlib.asynccontextmanager
async def _process(task: Task) -> AsyncIterator[Process]:
    folder = Path(task.folder)
    notes = Notes(folder / f"notes-{task.process}-{task.start}")
    board = Board(folder / "board", task.users, task.process)
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(task.redis_url))
        database = await stack.enter_async_context(open_database(task.mongodb_url, "walk"))
        hub, backplane, _ = open_hub(redis)
        await _patiently(lambda: stack.enter_async_context(backplane.running(hub)))
        access = MongoAccess(database, most=16, most_a_user=8, most_waiting_a_user=0)
        service = NotedService(
            database,
            backplane,
            access=access,
            quota=QUOTA,
            replay_limit=REPLAY_LIMIT,
            notes=notes,
            board=board,
            first=(task.process + PROCESSES * task.start) * STARTS,
        )
        await _patiently(service.prepare)
        jobs = Jobs()
        stack.push_async_callback(jobs.close)
        watch = LogWatch(hub, "user", service.read_heads, lambda: CHECK_SECONDS)
        jobs.keep(watch.run, "log-watch")
        rng = random.Random(f"{task.seed}-{task.process}-{task.start}")
        walker = Walker(task, service, board, notes, rng)
        devices = [
            Device(user, number, service, hub, board, notes)
            for user, number in _devices_of(task.process, task.users)
        ]
        process = Process(task, service, walker, devices, notes, folder)
        process.go_on()
        yield process


def _devices_of(process: int, users: Sequence[str]) -> list[tuple[str, int]]:
    """Return the devices at a process: those of one user are at three of the four."""
    places = itertools.product(enumerate(users), range(DEVICES))
    return [
        (user, number)
        for (place, user), number in places
        if (place + number) % PROCESSES == process
    ]


async def _patiently(do: Callable[[], Awaitable[object]]) -> None:
    """Do something; again while a store is away, or others come before."""

    async def is_done() -> bool:
        try:
            await do()
        except LATER:
            return False
        return True

    await until(is_done, AWAY_SECONDS, "the stores are there")
