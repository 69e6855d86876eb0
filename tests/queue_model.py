"""The queue as a plain Python model, and a driver that runs both side by side.

The model knows nothing of Redis: tasks in a dict, lines sorted when asked. After each step the
driver compares what both know. Leases, delays and rates run out when the driver says. Whose turn it
is, is exact in both orders, and when one changes to the other.
"""

import collections
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from redis.asyncio import Redis

from services.queue import (
    Ack,
    Claim,
    Claimed,
    Conflict,
    Job,
    KindEntry,
    KindLimits,
    NewTask,
    OnConflict,
    Outcome,
    Priority,
    QueueFull,
    QueueService,
    TaskNotFound,
    TaskState,
    Unique,
    new_request,
)
from services.schedules.models import BETWEEN, Overlap
from services.schedules.store import Firing, Occasion, ScheduleStore, Write
from settings import QueueOrder

USERS = ("ann", "ben", "cleo", "dan")
WORKERS = ("one", "two", "three")
KINDS = ("fast", "keyed", "rated")
KEYS = ("", "x", "y")
ENDS = ("completed", "failed", "cancelled", "dead")
WAITING = ("queued", "delayed")
# So slow that no token comes back by itself while a test runs.
RATES = {"": 0, "2/d": 2, "4/d": 4}
DEFINITION = b"{}"
# The driver remembers this many claims and requests; Redis forgets a request after a minute.
CLAIMS_KEPT = 20
REQUESTS_KEPT = 5
# An attempt that ends so is followed by another, or after the last one by an end of this name.
AGAIN = {Outcome.RETRY: "dead", Outcome.ERROR: "failed"}
# As the scripts have them.
LET_IN = 8
MOST_KEYS = 20
MOST_PASSED = 9
MAX_ATTEMPTS = 2

Line = tuple[str, int]
Turn = tuple[Line, str]


@attrs.define
class ModelTask:
    """The state of a task in the model."""

    user: str
    seq: int
    kind: str = "fast"
    level: int = 2
    key: str = ""
    status: str = "queued"
    attempt: int = 0
    # Of the attempt that runs, or that its owner has ended; and the one that its owner gave back.
    token: str = ""
    closed: str = ""
    worker: str = ""
    percent: float = 0.0
    batch: str | None = None
    # The key that it has: for how long, and its name; and the one that it was submitted under.
    unique: tuple[str, str] | None = None
    own_unique: tuple[str, str] | None = None
    # When it ended: the number of the step, and its id among those of the same moment.
    ended: tuple[int, str] = (0, "")

    @property
    def line(self) -> Line:
        return self.kind, self.level


@attrs.define
class Limits:
    """The limits of a kind; a rate by how many may start until it is full again."""

    limit: int = 0
    user_limit: int = 0
    key_limit: int = 0
    rate: str = ""
    key_rate: str = ""


@attrs.define
class Head:
    """The head of a line, as a claim has found it."""

    line: Line
    turn: int
    user: str
    # A task's id, or a key.
    entry: str
    keyed: bool


@attrs.define
class Model:
    """The rules of the queue, without any of its structures."""

    user_limit: int = 2
    global_limit: int = 5
    max_waiting: int = 14
    # Ended tasks of a user, and dead ones apart.
    kept: int = 5
    moment: int = 0
    tasks: dict[str, ModelTask] = attrs.field(factory=dict)
    seq: int = 0
    order: QueueOrder = QueueOrder.FIFO
    kinds: dict[str, Limits] = attrs.field(factory=lambda: {kind: Limits() for kind in KINDS})
    paused: set[str] = attrs.field(factory=set)
    parked: set[Turn] = attrs.field(factory=set)
    # Lanes that a key holds back: (kind, key) and (level, user), with the turn that each had then.
    held: dict[tuple[str, str], dict[tuple[int, str], int]] = attrs.field(factory=dict)
    loose: set[tuple[str, str]] = attrs.field(factory=set)
    # Keys without a token: those to be looked at later, and those whose time has come.
    resting: set[tuple[str, str]] = attrs.field(factory=set)
    rested: set[tuple[str, str]] = attrs.field(factory=set)
    started: dict[tuple[str, ...], int] = attrs.field(factory=dict)
    # The number of times that each turn was passed over.
    passed: dict[int, int] = attrs.field(factory=dict)
    turns: dict[Turn, int] = attrs.field(factory=dict)
    turn: int = 0
    closed: set[str] = attrs.field(factory=set)
    # The deleted task that has the unique key of a user and kind.
    throttled: dict[tuple[str, str], str] = attrs.field(factory=dict)
    # Of the schedule of each user: when it is due, and the task that it made last.
    due: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(USERS, 1.0))
    last: dict[str, str] = attrs.field(factory=dict)

    def has_room(self, user: str, adding: int) -> bool:
        waiting = [t for t in self.tasks.values() if t.user == user and t.status in WAITING]
        return len(waiting) + adding <= self.max_waiting

    def add(self, task_id: str, task: ModelTask) -> None:
        self.seq += 1
        task.seq = self.seq
        self.tasks[task_id] = task

    def running(self, **named: str) -> int:
        return sum(
            t.status == "processing" and all(getattr(t, k) == v for k, v in named.items())
            for t in self.tasks.values()
        )

    def queued(self, line: Line) -> list[str]:
        found = [i for i, t in self.tasks.items() if t.status == "queued" and t.line == line]
        return sorted(found, key=lambda i: self.tasks[i].seq)

    def position(self, task_id: str) -> int:
        task = self.tasks[task_id]
        before = sum(len(self.queued((task.kind, level))) for level in range(task.level))
        return before + self.queued(task.line).index(task_id) + 1

    def lane(self, line: Line, user: str, key: str) -> list[str]:
        return [
            i for i in self.queued(line) if self.tasks[i].user == user and self.tasks[i].key == key
        ]

    def is_held(self, line: Line, user: str, key: str) -> bool:
        return (line[1], user) in self.held.get((line[0], key), {})

    def entries(self, line: Line, user: str) -> list[tuple[int, str, bool]]:
        """Return what may start of a user, by its number: tasks without a key, and lanes."""
        found: dict[str, tuple[int, str, bool]] = {}
        for task_id in self.queued(line):
            task = self.tasks[task_id]
            if task.user != user:
                continue
            if not task.key:
                found[task_id] = (task.seq, task_id, False)
            elif not self.is_held(line, user, task.key):
                found.setdefault("\n" + task.key, (task.seq, task.key, True))
        return sorted(found.values())

    def ready(self, line: Line) -> list[str]:
        """Return the users who have something that may start, by whose turn it is."""
        users = {self.tasks[i].user for i in self.queued(line)}
        waiting = [u for u in users if self.entries(line, u) and (line, u) not in self.parked]
        return sorted(waiting, key=lambda user: self.turn_of(line, user))

    def turn_of(self, line: Line, user: str) -> int:
        if self.order == QueueOrder.FIFO:
            return self.entries(line, user)[0][0]
        return self.turns[(line, user)]

    @property
    def some_are_blocked(self) -> bool:
        return bool(self.parked or any(self.held.values()))

    def settle(
        self,
        moved: Sequence[Turn] = (),
        freed: Sequence[str] = (),
        keys: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Find turns anew after lines changed, and users and keys were freed."""
        moved = list(moved)
        if self.some_are_blocked:
            for user in dict.fromkeys(freed):
                for line in sorted((x for x, u in self.parked if u == user), key=name_of):
                    self.parked.discard((line, user))
                    moved.append((line, user))
            for kind, key in dict.fromkeys(k for k in keys if k[1]):
                moved += self.let_in(kind, key)
        for turn in dict.fromkeys(moved):
            if not self.entries(*turn):
                self.parked.discard(turn)
                self.turns.pop(turn, None)
            elif turn not in self.parked and turn not in self.turns:
                self.draw(turn)

    def let_in(self, kind: str, key: str) -> list[Turn]:
        """Let the first lanes of a key back into their lines, and the first of each lower level."""
        order, members = self.held_in_order(kind, key), self.held.get((kind, key), {})
        first = order[:LET_IN]
        if len(first) == LET_IN:
            lower = [one for one in order if one[0] > first[-1][0]]
            first += {level: (level, user) for level, user in reversed(lower)}.values()
        for one in first:
            del members[one]
        if members:
            self.loose.add((kind, key))
        else:
            self.loose.discard((kind, key))
        return [((kind, level), user) for level, user in sorted(first, key=order.index)]

    def held_in_order(self, kind: str, key: str) -> list[tuple[int, str]]:
        """Return the lanes that a key holds back, the next one first."""
        members = self.held.get((kind, key), {})

        def place(one: tuple[int, str]) -> tuple[int, int]:
            level, user = one
            first = self.tasks[self.lane((kind, level), user, key)[0]].seq
            return level, first if self.order == QueueOrder.FIFO else members[one]

        return sorted(members, key=place)

    def keys_that_hold(self) -> set[tuple[str, str]]:
        """Return the kinds and keys that hold lanes back."""
        return {both for both, members in self.held.items() if members}

    def forget_keys(self, keys: set[tuple[str, str]]) -> None:
        """Look no more at keys that hold nothing back any more."""
        for waiting in (self.resting, self.rested, self.loose):
            waiting -= keys

    def moves(self, task_id: str) -> list[Turn]:
        """Return the turn to find anew because the task came into the line."""
        task = self.tasks[task_id]
        if task.key and self.lane(task.line, task.user, task.key)[0] != task_id:
            return []
        if task.key and self.is_held(task.line, task.user, task.key):
            return []
        first = self.entries(task.line, task.user)[0]
        mine = first[2] and first[1] == task.key if task.key else first[1] == task_id
        return [(task.line, task.user)] if mine else []

    def draw(self, turn: Turn) -> None:
        self.turn += 1
        self.turns[turn] = self.turn

    def change_limits(self, kind: str, changes: dict[str, Any]) -> None:
        """Change limits, and find the turns of those anew who stood aside."""
        before = self.order
        if kind:
            for name, value in changes.items():
                setattr(self.kinds[kind], name, value)
        else:
            self.user_limit = changes.get("user_limit", self.user_limit)
            self.global_limit = changes.get("global_limit", self.global_limit)
            self.order = changes.get("order", self.order)
        back = sorted(
            (turn for turn in self.parked if not kind or turn[0][0] == kind),
            key=lambda turn: (turn[1], name_of(turn[0])),
        )
        moved: list[Turn] = []
        if not kind and before != self.order:
            lines = sorted(
                {t.line for t in self.tasks.values() if t.status == "queued"}, key=name_of
            )
            now, self.order = self.order, before
            moved = [(line, user) for line in lines for user in self.ready(line)]
            for kind_of, key in sorted(self.keys_that_hold(), key="\n".join):
                lanes = self.held_in_order(kind_of, key)
                back += [((kind_of, level), user) for level, user in lanes]
                self.held[(kind_of, key)] = {}
            self.order, self.turns, self.passed = now, {}, {}
        self.parked -= set(back)
        if kind:
            self.loose |= {
                both for both, members in self.held.items() if both[0] == kind and members
            }
        self.settle(moved + back)

    def claim(
        self, kinds: Sequence[str], count: int, acks: Sequence[Ack] = ()
    ) -> tuple[list[bool], list[str]]:
        """End attempts, and start the tasks that may.

        Return what `end_attempts` does, and what has started.
        """
        # As the request finds it: users whom its own ends free are looked for turn by turn too.
        blocked = self.some_are_blocked
        known = self.end_attempts(acks)
        return known, self.start_some(kinds, count, blocked=blocked)

    def start_some(self, kinds: Sequence[str], count: int, *, blocked: bool) -> list[str]:
        """Start the tasks that may, turn by turn, passing over what a limit holds back."""
        room = count
        if self.global_limit:
            room = min(count, self.global_limit - self.running())
        open_kinds = [kind for kind in kinds if kind not in self.paused and "" not in self.paused]
        lines = [(k, level) for k in open_kinds for level in range(5) if self.queued((k, level))]
        if room <= 0 or not lines:
            return []
        self.closed = set()
        if blocked:
            self.settle(self.look_at_keys(kinds))
        return _Picker(self, lines, room).pick(in_stretches=not blocked)

    def look_at_keys(self, kinds: Sequence[str]) -> list[Turn]:
        moved: list[Turn] = []
        for both in sorted(self.rested, key="\n".join)[:MOST_KEYS]:
            self.rested.discard(both)
            moved += self.let_in(*both)
        for kind in kinds:
            for both in sorted(one for one in self.loose if one[0] == kind)[:MOST_KEYS]:
                if self.is_key_full(*both):
                    self.loose.discard(both)
                else:
                    moved += self.let_in(*both)
        return moved

    def is_open(self, kind: str) -> bool:
        limits = self.kinds[kind]
        full = 0 < limits.limit <= self.running(kind=kind)
        if full or (limits.rate and self.started.get((kind,), 0) >= RATES[limits.rate]):
            self.closed.add(kind)
        return kind not in self.closed

    def at_limit(self, kind: str, user: str) -> bool:
        own = self.kinds[kind].user_limit
        everywhere = 0 < self.user_limit <= self.running(user=user)
        return everywhere or 0 < own <= self.running(kind=kind, user=user)

    def is_key_full(self, kind: str, key: str) -> bool:
        limits = self.kinds[kind]
        if 0 < limits.key_limit <= self.running(kind=kind, key=key):
            return True
        if limits.key_rate and self.started.get((kind, key), 0) >= RATES[limits.key_rate]:
            self.rested.discard((kind, key))
            self.resting.add((kind, key))
            return True
        return False

    def start(self, task_id: str) -> None:
        task = self.tasks[task_id]
        task.status, task.percent = "processing", 0.0
        task.attempt += 1
        limits = self.kinds[task.kind]
        # A task that starts without a rate counts for none.
        if limits.rate:
            self.started[(task.kind,)] = self.started.get((task.kind,), 0) + 1
        if limits.key_rate and task.key:
            both = (task.kind, task.key)
            self.started[both] = self.started.get(both, 0) + 1
        if task.unique and task.unique[0] == "waiting":
            task.unique = None

    def owns(self, task_id: str, token: str) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and task.status == "processing" and task.token == token

    def has_given_back(self, task_id: str, token: str) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and task.closed == token

    def is_known(self, task_id: str, token: str) -> bool:
        """Say whether the token is not stale: its attempt runs, or its owner has ended it."""
        task = self.tasks.get(task_id)
        return task is not None and token in (task.token, task.closed)

    def end_attempts(self, acks: Sequence[Ack]) -> list[bool]:
        """End attempts in one request; return of each whether its token was not stale."""
        known, ended, moved = [], [], []
        for ack in acks:
            known.append(self.is_known(ack.task_id, ack.token))
            if not self.owns(ack.task_id, ack.token):
                continue
            self.end_attempt(ack)
            task = self.tasks[ack.task_id]
            if task.status == "queued":
                moved += self.moves(ack.task_id)
            ended.append(task)
        self.settle(moved, [t.user for t in ended], [(t.kind, t.key) for t in ended])
        return known

    def end_attempt(self, ack: Ack) -> None:
        if ack.outcome in AGAIN:
            status = "delayed" if ack.delay else "queued"
            self.give_back(ack.task_id, AGAIN[ack.outcome], status, ack.token)
        else:
            self.end(ack.task_id, ack.outcome.value, ack.token)

    def give_back(self, task_id: str, last: str, status: str = "queued", closed: str = "") -> None:
        """End an attempt without a result; `closed`: the token of the owner who did, "" if lost."""
        task = self.tasks[task_id]
        if task.attempt >= MAX_ATTEMPTS:
            self.end(task_id, last, closed)
        else:
            task.status, task.token, task.closed, task.percent = status, "", closed, 0.0

    def end(self, task_id: str, status: str, token: str = "") -> None:
        """End a task; `token`: of the owner who did."""
        task = self.tasks[task_id]
        if task.status == "queued" and self.order == QueueOrder.FIFO:
            self.passed.pop(task.seq, None)
        task.status, task.token, task.ended = status, token, (self.moment, task_id)
        if task.unique and task.unique[0] != "seconds":
            task.unique = None
        # A lane of which nothing waits any more is not held, also for the next that comes into it.
        if not self.lane(task.line, task.user, task.key):
            self.held.get((task.kind, task.key), {}).pop((task.level, task.user), None)

    def leave(self, task_id: str, change: Callable[[], None]) -> None:
        """Change a task, and find turns anew after what that frees."""
        task = self.tasks[task_id]
        was, line = task.status, task.line
        change()
        moved = self.moves(task_id) if task.status == "queued" else []
        if was == "processing":
            self.settle(moved, [task.user], [(task.kind, task.key)])
        else:
            self.settle([(line, task.user), *moved] if was == "queued" else moved)

    def let_go(self, user: str) -> None:
        """Forget the oldest ended tasks of a user of whom some have just ended."""
        for dead in (True, False):
            own = [
                id_
                for id_, t in self.tasks.items()
                if t.user == user and t.status in ENDS and (t.status == "dead") == dead
            ]
            own.sort(key=lambda id_: self.tasks[id_].ended)
            if own and self.tasks[own[-1]].ended[0] == self.moment:
                for task_id in own[: -self.kept]:
                    self.delete(task_id)

    def delete(self, task_id: str) -> None:
        """Delete a task; a unique key that it has for some seconds it keeps."""
        task = self.tasks.pop(task_id)
        if task.unique and task.unique[0] == "seconds":
            self.throttled[(task.user, task.kind)] = task_id


@attrs.define
class _Picker:
    """One claim: picks what starts, first from the lines as they are, then turn by turn."""

    model: Model
    lines: list[Line]
    room: int
    picked: list[str] = attrs.field(factory=list)
    heads: dict[Line, Head] = attrs.field(factory=dict)

    def pick(self, *, in_stretches: bool) -> list[str]:
        if self.model.order == QueueOrder.FIFO and in_stretches:
            self.take_stretch()
        if len(self.picked) < self.room:
            self.take_turns()
        return self.picked

    def take_stretch(self) -> None:
        for line in self.lines:
            self.look_at_first(line)
        while len(self.picked) < self.room and (head := self.choose()):
            task = self.model.tasks[head.entry]
            full = task.key and self.model.is_key_full(task.kind, task.key)
            if self.model.at_limit(task.kind, task.user) or full:
                break
            self.begin(head, head.entry)
            for line in self.lines:
                if line[0] == head.line[0]:
                    self.look_at_first(line)
        self.model.settle([(line, user) for line in self.lines for user in USERS])

    def look_at_first(self, line: Line) -> None:
        queued = self.model.queued(line)
        self.heads.pop(line, None)
        if queued and self.model.is_open(line[0]):
            task = self.model.tasks[queued[0]]
            self.heads[line] = Head(line, task.seq, task.user, queued[0], False)

    def take_turns(self) -> None:
        for line in self.lines:
            self.look(line)
        while len(self.picked) < self.room and (head := self.choose()):
            model, turn = self.model, (head.line, head.user)
            task_id = head.entry
            if head.keyed:
                task_id = model.lane(head.line, head.user, head.entry)[0]
            self.begin(head, task_id)
            model.turns.pop(turn, None)
            if model.entries(*turn):
                model.draw(turn)
            changed = {head.line[0]} | {x[0] for x, h in self.heads.items() if h.user == head.user}
            for line in self.lines:
                if line[0] in changed:
                    self.look(line)

    def look(self, line: Line) -> None:
        """Find the head of a line, and put aside what stands before it and may not start."""
        model = self.model
        self.heads.pop(line, None)
        while model.is_open(line[0]):
            user = next(iter(model.ready(line)), None)
            if user is None:
                return
            if model.at_limit(line[0], user):
                model.parked.add((line, user))
                continue
            _, entry, keyed = model.entries(line, user)[0]
            if keyed and model.is_key_full(line[0], entry):
                turn = model.turn_of(line, user)
                model.held.setdefault((line[0], entry), {})[(line[1], user)] = turn
                continue
            self.heads[line] = Head(line, model.turn_of(line, user), user, entry, keyed)
            return

    def choose(self) -> Head | None:
        heads = list(self.heads.values())
        if not heads:
            return None
        best = min(heads, key=lambda head: (head.line[1], head.turn))
        if self.levels > 1:
            urgent = [
                head for head in self.oldest() if self.model.passed.get(head.turn, 0) >= MOST_PASSED
            ]
            best = min(urgent, key=lambda head: head.turn, default=best)
        return best

    def oldest(self) -> list[Head]:
        kinds = dict.fromkeys(head.line[0] for head in self.heads.values())
        return [
            min((h for h in self.heads.values() if h.line[0] == kind), key=lambda head: head.turn)
            for kind in kinds
        ]

    @property
    def levels(self) -> int:
        return len({level for _, level in self.lines})

    def begin(self, head: Head, task_id: str) -> None:
        passed = self.model.passed
        if self.levels > 1:
            for oldest in self.oldest():
                if oldest.turn < head.turn:
                    passed[oldest.turn] = passed.get(oldest.turn, 0) + 1
        passed.pop(head.turn, None)
        self.model.start(task_id)
        self.picked.append(task_id)


def schedule_of(user: str) -> str:
    """Return the id of a user's schedule."""
    return f"{user}{BETWEEN}s"


def name_of(line: Line) -> str:
    """Return what the queue calls a line."""
    return f"{line[1]}{line[0]}"


def new_task(kind: str = "fast", **more: Any) -> NewTask:
    """Return a task as small as it may be."""
    return NewTask(
        kind=kind, job=Job(label="A"), first=b'"progress":0.0', max_attempts=MAX_ATTEMPTS, **more
    )


@attrs.frozen
class Request:
    """A request of a worker; repeated it is the same."""

    id: str
    worker: str
    count: int
    kinds: Sequence[str]
    acks: Sequence[Ack]


@attrs.define
class Driver:
    """Takes the same random steps on the queue and on the model."""

    queue: QueueService
    redis: Redis
    rng: random.Random
    model: Model = attrs.field(factory=Model)
    # Chooses what is compared: the steps are the same however often that is.
    looks: random.Random = attrs.field(factory=lambda: random.Random(0))
    claims: list[Claim] = attrs.field(factory=list)
    # The last requests, and what each was given.
    requests: list[tuple[Request, Sequence[Claim]]] = attrs.field(factory=list)
    made: int = 0

    async def prepare(self) -> None:
        """Make the kinds and the limits known; harmless when repeated."""
        entries = [KindEntry(kind=kind, limits=KindLimits()) for kind in KINDS]
        await self.queue.register_kinds(entries)
        writes = [Write(schedule_of(user), b"", DEFINITION, 1.0) for user in USERS]
        await ScheduleStore(self.queue).write(writes)

    async def step(self) -> str:
        """Take one random step; return its name."""
        name = self.rng.choices(list(STEPS), [STEPS[name] for name in STEPS])[0]
        await self.take(name)
        return name

    async def take(self, name: str) -> None:
        """Take one step."""
        self.model.moment += 1
        held = self.model.keys_that_hold()
        await getattr(self, name)()
        self.model.forget_keys(held - self.model.keys_that_hold())
        self.let_go()

    def let_go(self) -> None:
        """Forget in the model what ended tasks are too many."""
        for user in USERS:
            self.model.let_go(user)

    def some_task(self, user: str) -> tuple[NewTask, ModelTask]:
        """Return a new task, and what the model is to know of it."""
        kind, key = self.rng.choice(KINDS), self.rng.choice(KEYS)
        priority = self.rng.choices(list(Priority), [1, 2, 6, 2, 1])[0]
        task = ModelTask(user, 0, kind, priority.level, key)
        return new_task(kind, key=key, priority=priority), task

    async def enqueue(self) -> None:
        user, delay = self.rng.choice(USERS), self.rng.choice([0.0, 0.0, 0.0, 1000.0])
        new, task = self.some_task(user)
        self.made += 1
        task_id = f"t{self.made}"
        try:
            await self.queue.enqueue_task(user, new, delay=delay, task_id=task_id)
        except QueueFull:
            assert not self.model.has_room(user, 1)
            return
        assert self.model.has_room(user, 1)
        self._add(task_id, task, delay)
        self.model.settle([] if delay else self.model.moves(task_id))

    def _add(self, task_id: str, task: ModelTask, delay: float) -> None:
        task.status = "delayed" if delay else "queued"
        self.model.add(task_id, task)

    async def enqueue_unique(self) -> None:
        """Submit under a unique key, which another task may have."""
        user, delay = self.rng.choice(USERS), self.rng.choice([0.0, 1000.0])
        new, task = self.some_task(user)
        scope: str | float = self.rng.choice(["waiting", "running", 100000.0])
        conflict = self.rng.choice(list(OnConflict))
        task.own_unique = (scope if isinstance(scope, str) else "seconds", "u")
        task.unique = task.own_unique
        new = attrs.evolve(new, unique=Unique(key="u", scope=scope, on_conflict=conflict))
        self.made += 1
        task_id, other = f"t{self.made}", self.holder(user, task.kind, task.unique[0])
        deleted = self.model.throttled.get((user, task.kind)) if scope == 100000.0 else None
        room = self.model.has_room(user, 1)
        replaced = other is not None and conflict == OnConflict.REPLACE
        room = room or (replaced and self.model.tasks[str(other)].status in WAITING)
        try:
            made = await self.queue.enqueue_task(user, new, delay=delay, task_id=task_id)
        except Conflict as error:
            refused = error.task_id
            assert refused == (deleted or other)
            assert conflict in (
                (OnConflict.REJECT, OnConflict.RETURN) if deleted else (OnConflict.REJECT,)
            )
            return
        except QueueFull:
            assert not room
            return
        if other is not None and conflict == OnConflict.RETURN:
            assert made.task_id == other
            return
        assert room
        assert not deleted or conflict == OnConflict.REPLACE
        assert made.task_id == task_id
        self._free_key(task)

        def replace() -> None:
            if other is not None and self.model.tasks[other].status not in ENDS:
                self.model.end(other, "cancelled")
            self._add(task_id, task, delay)

        moved: list[Turn] = []
        freed: list[ModelTask] = []
        self._replace(other, task_id, replace, moved, freed)
        self.model.settle(moved, [t.user for t in freed], [(t.kind, t.key) for t in freed])

    def _free_key(self, task: ModelTask) -> None:
        """Another of its user and kind has the key from now on."""
        self.model.throttled.pop((task.user, task.kind), None)
        for one in self.model.tasks.values():
            if (one.user, one.kind) == (task.user, task.kind):
                one.unique = None

    def _replace(
        self,
        other: str | None,
        task_id: str,
        replace: Callable[[], None],
        moved: list[Turn],
        freed: list[ModelTask],
    ) -> None:
        """Note what is found anew after the one has gone and the other has come."""
        model = self.model
        gone = model.tasks[other] if other is not None else None
        if gone is not None and gone.status == "processing":
            freed.append(gone)
        elif gone is not None and gone.status == "queued":
            moved.append((gone.line, gone.user))
        replace()
        if model.tasks[task_id].status == "queued":
            moved += model.moves(task_id)

    async def fire(self) -> None:
        """The time of a schedule comes, or another process has fired it."""
        user, overlap = self.rng.choice(USERS), self.rng.choice(list(Overlap))
        new, task = self.some_task(user)
        due, quicker = self.model.due[user], self.rng.random() < 0.2
        ids = [f"s{self.made + number}" for number in range(1, self.rng.randint(1, 2) + 1)]
        self.made += len(ids)
        firing = Firing(
            id=schedule_of(user),
            definition=DEFINITION,
            user_id=user,
            overlap=overlap,
            expected=due + 0.5 if quicker else due,
            next_time=due + 1,
            new=new,
            occasions=[Occasion(id_, due, due) for id_ in ids],
        )
        made = (await ScheduleStore(self.queue).fire(firing)).made
        if quicker:
            assert made == 0
            return
        self.model.due[user] = due + 1
        moved: list[Turn] = []
        freed: list[ModelTask] = []
        before = self.model.last.get(user)
        come = [
            id_ for id_ in ids if self._make(id_, attrs.evolve(task), before, overlap, moved, freed)
        ]
        assert made == len(come)
        self.model.settle(moved, [t.user for t in freed], [(t.kind, t.key) for t in freed])

    def _make(
        self,
        task_id: str,
        task: ModelTask,
        last: str | None,
        overlap: Overlap,
        moved: list[Turn],
        freed: list[ModelTask],
    ) -> bool:
        """Make a task of a schedule, unless one before or the user's bound is in the way.

        `last` is what it made in an earlier firing.
        """
        model, user = self.model, task.user
        if last not in model.tasks or model.tasks[last].status in ENDS:
            last = None
        if last is not None and overlap == Overlap.SKIP:
            return False
        replaced = last if overlap == Overlap.REPLACE else None
        gives_way = replaced is not None and model.tasks[replaced].status in WAITING
        if not gives_way and not model.has_room(user, 1):
            return False

        def replace() -> None:
            if replaced is not None:
                model.end(replaced, "cancelled")
            self._add(task_id, task, 0.0)

        self._replace(replaced, task_id, replace, moved, freed)
        model.last[user] = task_id
        return True

    def holder(self, user: str, kind: str, scope: str) -> str | None:
        """Return the task that has the user's key, if it holds for this scope."""
        for task_id, task in self.model.tasks.items():
            if (task.user, task.kind) != (user, kind) or task.unique is None:
                continue
            if scope == "waiting" and task.status not in WAITING:
                return None
            if scope == "running" and task.status in ENDS:
                return None
            return task_id
        return None

    async def batch(self) -> None:
        user, count = self.rng.choice(USERS), self.rng.randint(1, 4)
        kind = self.rng.choice(KINDS)
        both = [self.some_task(user) for _ in range(count)]
        self.made += 1
        batch_id = f"b{self.made}"
        news = [attrs.evolve(new, kind=kind) for new, _ in both]
        try:
            made = await self.queue.create_batch(user, news, batch_id=batch_id)
        except QueueFull:
            assert not self.model.has_room(user, count)
            return
        moved: list[Turn] = []
        for task_id, (_, task) in zip(made.task_ids, both, strict=True):
            task.kind, task.batch = kind, batch_id
            self.model.add(task_id, task)
            moved += self.model.moves(task_id)
        self.model.settle(moved)

    async def claim(self) -> None:
        """Ask for tasks as a worker does: the same request ends attempts, also such as are over."""
        request = Request(
            new_request(),
            self.rng.choice(WORKERS),
            self.rng.randint(0, 4),
            self.rng.sample(KINDS, self.rng.randint(1, len(KINDS))),
            self.some_acks(self.rng.choice([0, 0, 1, 2, 4])),
        )
        claimed = await self._ask(request)
        known, started = self.model.claim(request.kinds, request.count, request.acks)
        assert claimed.owned == known
        assert [c.task.task_id for c in claimed.claims] == started
        for claim in claimed.claims:
            task = self.model.tasks[claim.task.task_id]
            assert (claim.task.attempt, claim.task.kind) == (task.attempt, task.kind)
            task.token, task.worker = claim.token, request.worker
        self.claims = (self.claims + claimed.claims)[-CLAIMS_KEPT:]
        self.requests = [*self.requests, (request, claimed.claims)][-REQUESTS_KEPT:]
        self.let_go()
        await self._compare_tasks([ack.task_id for ack in request.acks])

    async def claim_again(self) -> None:
        """Repeat a request: what it got and still owns comes again, and nothing changes."""
        if not self.requests:
            return
        request, given = self.rng.choice(self.requests)
        claimed = await self._ask(request)
        assert claimed.owned == self.model.end_attempts(request.acks)
        still = [c for c in given if self.model.owns(c.task.task_id, c.token)]
        assert claimed.claims == still
        self.let_go()
        await self._compare_tasks([ack.task_id for ack in request.acks])

    async def _ask(self, request: Request) -> Claimed:
        return await self.queue.claim(
            request.worker, request.count, request.acks, request.id, kinds=request.kinds
        )

    def some_acks(self, count: int) -> list[Ack]:
        """Return ends of attempts: of some that run, of some that are over, and one perhaps twice.

        Many are of tasks that wait again: the same request may start them.
        """
        waiting = {i for i, t in self.model.tasks.items() if t.status == "queued"}
        late = [claim for claim in self.claims if claim.task.task_id in waiting]
        pools = [pool for pool in (late, self.claims) if pool]
        claims = [self.rng.choice(self.rng.choice(pools)) for _ in range(count if pools else 0)]
        return [self._ack_of(claim, self.rng.choice(list(Outcome))) for claim in claims]

    def _ack_of(self, claim: Claim, outcome: Outcome) -> Ack:
        delay = self.rng.choice([0.0, 1000.0]) if outcome in AGAIN else 0.0
        fragment = self.rng.choice([None, b'"progress":1'])
        return Ack(
            claim.task.task_id,
            claim.token,
            outcome,
            error="x",
            fragment=fragment,
            delay=delay,
            report=self.rng.choice([None, b'"progress":1', b'"progress":2']),
        )

    async def ack(self) -> None:
        await self._end(Outcome.COMPLETED)

    async def fail(self) -> None:
        await self._end(Outcome.FAILED)

    async def retry(self) -> None:
        """An attempt ends without a result, by an exception or by `Retry`."""
        await self._end(*AGAIN)

    async def _end(self, *outcomes: Outcome) -> None:
        """End an attempt apart from a claim, once or twice."""
        if not self.claims:
            return
        ack = self._ack_of(self.rng.choice(self.claims), self.rng.choice(outcomes))
        for _ in range(self.rng.randint(1, 2)):
            owned = await self.queue.end_attempt(ack)
            assert [owned] == self.model.end_attempts([ack])
            self.let_go()

    async def release(self) -> None:
        if not self.claims:
            return
        claim = self.rng.choice(self.claims)
        task_id, token = claim.task.task_id, claim.token
        mine = self.model.owns(task_id, token)
        owned = await self.queue.release_task(task_id, token)
        assert owned == (mine or self.model.has_given_back(task_id, token))
        if mine:
            self.model.leave(task_id, lambda: self._release(self.model.tasks[task_id]))

    def _release(self, task: ModelTask) -> None:
        task.status, task.token, task.closed, task.percent = "queued", "", task.token, 0.0
        task.attempt -= 1

    async def report(self) -> None:
        if not self.claims:
            return
        claim, percent = self.rng.choice(self.claims), float(self.rng.randint(0, 100))
        task_id, token = claim.task.task_id, claim.token
        owned = await self.queue.report_progress(task_id, token, b'"progress":1', percent)
        assert owned == self.model.owns(task_id, token)
        if owned:
            task = self.model.tasks[task_id]
            # A report of an equal fragment is a repeated one.
            if task.percent <= percent and not task.percent:
                task.percent = percent

    async def cancel(self) -> None:
        if not self.model.tasks:
            return
        task_id = self.rng.choice(list(self.model.tasks))
        await self.queue.cancel_task(task_id)
        self._cancel(task_id)

    def _cancel(self, task_id: str) -> None:
        if self.model.tasks[task_id].status not in ENDS:
            self.model.leave(task_id, lambda: self.model.end(task_id, "cancelled"))

    async def expire(self) -> None:
        """The clock passes some leases."""
        running = self._running_of(WORKERS)
        lost = self.rng.sample(running, self.rng.randint(0, len(running)))
        for task_id in lost:
            await self.redis.zadd(self.queue.prefix + "processing", {task_id: 1})
        await self._hand_back(lost)

    async def lose_workers(self) -> None:
        """Some workers are gone."""
        workers = self.rng.sample(WORKERS, self.rng.randint(1, 2))
        lost = self._running_of(workers)
        assert await self.queue.expire_claims(workers) == len(lost)
        await self._hand_back(lost)

    def _running_of(self, workers: Sequence[str]) -> list[str]:
        tasks = self.model.tasks.items()
        return [id_ for id_, t in tasks if t.status == "processing" and t.worker in workers]

    async def _hand_back(self, lost: list[str]) -> None:
        assert await self.queue.cleanup_expired_tasks() == len(lost)
        # All fell due at once, and are taken by their ids.
        moved, freed, keys = [], [], []
        for task_id in sorted(lost):
            task = self.model.tasks[task_id]
            self.model.give_back(task_id, "dead")
            if task.status == "queued":
                moved += self.model.moves(task_id)
            freed.append(task.user)
            keys.append((task.kind, task.key))
        self.model.settle(moved, freed, keys)

    async def due(self) -> None:
        """The clock passes some delays."""
        aside = [id_ for id_, t in self.model.tasks.items() if t.status == "delayed"]
        come = self.rng.sample(aside, self.rng.randint(0, len(aside)))
        for task_id in come:
            await self.redis.zadd(self.queue.prefix + "delayed", {task_id: 1})
        await self.queue.keep_up()
        moved = []
        for task_id in sorted(come):
            self.model.tasks[task_id].status = "queued"
            moved += self.model.moves(task_id)
        self.model.settle(moved)

    async def refill(self) -> None:
        """The clock passes the time of some rates: their buckets are full again."""
        await self.redis.delete(self.queue.prefix + "buckets")
        self.model.started.clear()
        for kind, key in self.model.resting:
            await self.redis.zadd(self.queue.prefix + "resting", {f"{kind}\n{key}": 1})
        self.model.rested |= self.model.resting
        self.model.resting.clear()

    async def limits(self) -> None:
        """Change limits as an admin, of a kind or over all."""
        kind = self.rng.choice(["", *KINDS])
        changes: dict[str, Any] = {
            "user_limit": self.rng.randint(0, 3),
            "global_limit": self.rng.randint(0, 6),
        }
        if kind:
            changes = {
                "limit": self.rng.choice([0, 0, 1, 3]),
                "user_limit": self.rng.choice([0, 0, 1, 2]),
                "key_limit": self.rng.choice([0, 1, 1, 2]),
                "rate": self.rng.choice(list(RATES)) if kind == "rated" else "",
                "key_rate": self.rng.choice(list(RATES)) if kind == "keyed" else "",
            }
        await self.queue.set_limits(kind, changes)
        self.model.change_limits(kind, changes)
        # Counted anew by another size: for the model they are full.
        await self.refill()

    async def change_order(self) -> None:
        """Change the order."""
        order = self.rng.choice(list(QueueOrder))
        await self.queue.set_limits("", {"order": order})
        self.model.change_limits("", {"order": order})

    async def pause(self) -> None:
        """Pause a kind, or all; or have them go on."""
        kind = self.rng.choice(["", *KINDS, *KINDS])
        if kind in self.model.paused:
            await self.queue.resume(kind)
            self.model.paused.discard(kind)
        else:
            assert await self.queue.pause(kind) == (
                self.model.running(kind=kind) if kind else self.model.running()
            )
            self.model.paused.add(kind)

    async def resume(self) -> None:
        """Have all go on, so that most steps find nothing paused."""
        for kind in tuple(self.model.paused):
            await self.queue.resume(kind)
        self.model.paused.clear()

    async def keep(self) -> None:
        """Change how many ended tasks are kept; it holds for those who end some from then on."""
        self.model.kept = self.queue.kept_per_user = self.rng.choice([1, 3, 5])

    async def rerun(self) -> None:
        """Run again what has ended."""
        ended = [i for i, t in self.model.tasks.items() if t.status in ENDS[1:]]
        if not ended:
            return
        task_id = self.rng.choice(ended)
        known = self.model.tasks[task_id]
        scope = known.own_unique[0] if known.own_unique else "seconds"
        other = self.holder(known.user, known.kind, scope) if scope != "seconds" else None
        try:
            again = await self.queue.rerun_task(task_id)
        except Conflict as error:
            refused = error.task_id
            assert refused == other
            return
        assert other is None
        if scope != "seconds":
            self._free_key(known)
            known.unique = known.own_unique
        known.status, known.attempt, known.percent = "queued", 0, 0.0
        known.token = known.closed = ""
        assert again.attempt == 0
        self.model.settle(self.model.moves(task_id))

    async def discard(self) -> None:
        for task in await self.queue.list_dead(1):
            await self.queue.discard_task(task.task_id)
            self.model.delete(task.task_id)

    async def purge(self) -> None:
        """Cancel or delete all of a user and kind that are in one state."""
        user, kind = self.rng.choice(USERS), self.rng.choice(KINDS)
        status = self.rng.choice(["queued", "delayed", "failed", "dead", "completed"])
        purged = (await self.queue.purge(TaskState(status), kind=kind, user_id=user)).count
        fits = [
            i
            for i, t in self.model.tasks.items()
            if (t.status, t.kind, t.user) == (status, kind, user)
        ]
        assert purged == len(fits)
        fits.sort(key=lambda i: (self.model.tasks[i].level, self.model.tasks[i].seq))
        for task_id in fits:
            if status in ENDS:
                self.model.delete(task_id)
            else:
                self.model.end(task_id, "cancelled")
        lines = [(kind, level) for level in range(5)]
        self.model.settle([(line, user) for line in lines] if status == "queued" else [])

    async def forget(self) -> None:
        """The clock passes the retention of all that has ended."""
        for name in ("ended", "ended_batches"):
            for member in await self.redis.zrange(self.queue.prefix + name, 0, -1):
                await self.redis.zadd(self.queue.prefix + name, {member: 1})
        await self.queue.keep_up()
        for task_id in [id_ for id_, t in self.model.tasks.items() if t.status in ENDS]:
            self.model.delete(task_id)
            assert await self.queue.get_task(task_id) is None

    async def stale(self) -> None:
        """Requests on what is not there change nothing."""
        assert not await self.queue.ack_task("gone", token="1")
        assert not await self.queue.extend_task("gone", "1")
        try:
            await self.queue.cancel_task("gone")
        except TaskNotFound:
            return
        raise AssertionError("a task that is not there was cancelled")

    async def compare(self) -> None:
        """Compare the counts, the turns, and one task in all that is known of it."""
        stats = attrs.asdict(await self.queue.stats())
        counted = dict.fromkeys(stats, 0)
        for task in self.model.tasks.values():
            counted[task.status] += 1
        assert stats == counted
        waiting = [i for i, t in self.model.tasks.items() if t.status == "queued"]
        if waiting:
            task_id = self.looks.choice(waiting)
            found = await self.queue.get_task(task_id)
            assert found is not None
            assert found.position == self.model.position(task_id)
        await self.compare_counts()
        await self.compare_turns()

    async def compare_counts(self) -> None:
        """Compare what limits count: who runs what, and who has what waiting."""
        tasks = list(self.model.tasks.values())
        running = [t for t in tasks if t.status == "processing"]
        queued = [t for t in tasks if t.status == "queued"]
        expected: dict[str, Mapping[str, int]] = {
            "active": collections.Counter(t.user for t in running),
            "active_of": collections.Counter(f"{t.kind}\n{t.user}" for t in running),
            "running": collections.Counter(t.kind for t in running),
            "keys": collections.Counter(f"{t.kind}\n{t.key}" for t in running if t.key),
            "queued": collections.Counter(name_of(t.line) for t in queued),
            "waiting_of": collections.Counter(t.user for t in queued),
            "aside": collections.Counter(t.user for t in tasks if t.status == "delayed"),
        }
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in expected:
                pipe.hgetall(self.queue.prefix + name)
            replies = await pipe.execute()
        for (name, counts), reply in zip(expected.items(), replies, strict=True):
            assert {field.decode(): int(value) for field, value in reply.items()} == counts, name

    async def compare_turns(self) -> None:
        """Compare who may start next, who stands aside, and what keys hold back."""
        lines = [(kind, level) for kind in KINDS for level in range(5)]
        prefix, model = self.queue.prefix, self.model
        async with self.redis.pipeline(transaction=False) as pipe:
            for line in lines:
                pipe.zrange(f"{prefix}ready:{name_of(line)}", 0, -1)
            for user in USERS:
                pipe.smembers(f"{prefix}parked:{user}")
            for kind in KINDS:
                for key in KEYS[1:]:
                    pipe.zrange(f"{prefix}held:{kind}\n{key}", 0, -1)
            replies = await pipe.execute()
        for line, ready in zip(lines, replies, strict=False):
            assert [user.decode() for user in ready] == model.ready(line), line
        for user, parked in zip(USERS, replies[len(lines) :], strict=False):
            expected = {name_of(line) for line, one in model.parked if one == user}
            assert {line.decode() for line in parked} == expected, user
        keys = [(kind, key) for kind in KINDS for key in KEYS[1:]]
        for both, held in zip(keys, replies[len(lines) + len(USERS) :], strict=True):
            expected = {f"{level}\n{user}" for level, user in model.held.get(both, set())}
            assert {one.decode() for one in held} == expected, both

    async def check(self) -> None:
        """Compare everything in Redis with everything, and with the model."""
        assert await self.queue.check_invariants() == []
        await self._compare_tasks(self.model.tasks)

    async def _compare_tasks(self, task_ids: Iterable[str]) -> None:
        """Compare what is known of tasks, of which some may be deleted."""
        for task_id in task_ids:
            task, found = self.model.tasks.get(task_id), await self.queue.get_task(task_id)
            if task is None or found is None:
                assert (task, found) == (None, None), task_id
                continue
            known = (found.status, found.attempt, found.user_id, found.kind, found.key)
            assert known == (task.status, task.attempt, task.user, task.kind, task.key), task_id


STEPS: dict[str, int] = {
    "enqueue": 14,
    "enqueue_unique": 3,
    "batch": 3,
    "fire": 3,
    "claim": 14,
    "claim_again": 2,
    "ack": 9,
    "fail": 2,
    "retry": 3,
    "release": 2,
    "report": 4,
    "cancel": 3,
    "expire": 2,
    "lose_workers": 1,
    "due": 2,
    "refill": 2,
    "limits": 2,
    "change_order": 1,
    "pause": 1,
    "resume": 2,
    "keep": 1,
    "rerun": 2,
    "discard": 1,
    "purge": 1,
    "forget": 1,
    "stale": 1,
}


async def make_driver(redis: Redis, seed: int) -> Driver:
    """Return a driver on an empty Redis."""
    model = Model()
    queue = QueueService(
        redis,
        user_limit=model.user_limit,
        global_limit=model.global_limit,
        max_waiting_per_user=model.max_waiting,
        retention_seconds=600,
        kept_per_user=model.kept,
    )
    driver = Driver(queue, redis, random.Random(seed), model)
    await driver.prepare()
    return driver
