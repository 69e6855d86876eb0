"""Schedules of users: one verb a request."""

import hashlib
import math
from typing import Any

import attrs

from services.kinds import KindUnknown, ParamsFault
from services.queue import Idempotency, QueueService, Task, new_id
from services.schedules.firing import new_task
from services.schedules.models import (
    BETWEEN,
    ONLY_SHOWN,
    REASONS,
    Definition,
    Make,
    ScheduleConflict,
    ScheduleNotFound,
    ScheduleRefused,
    StoredSchedule,
    fields_of_task,
    schedule_id,
    task_id_of,
)
from services.schedules.requests import OF_ONE_TASK, TIMING, ScheduleRequest, is_of_kind, read_part
from services.schedules.store import (
    Firing,
    FoundSchedules,
    Occasion,
    ScheduleChanged,
    ScheduleStore,
    TooMany,
    Write,
)
from services.schedules.times import ScheduleFault
from services.submissions import TaskBounds, TaskRequest, bounded_task
from settings import default
from tornado_rt.work.params.faults import NAMES, at_place
from tornado_rt.work.texts import Text, phrase

ENABLED = "enabled"


class ScheduleService:
    """Makes, shows, changes and drops schedules. `user_id` in its verbs is whose they are.

    `make` makes the task of one, and so says whether its kind takes its parameters. `most_per_user`
    bounds the schedules of a user, 0: any number.
    """

    def __init__(
        self,
        queue: QueueService,
        make: Make,
        bounds: TaskBounds,
        *,
        most_per_user: int = default("schedules_per_user"),
    ) -> None:
        self._queue = queue
        self._store = ScheduleStore(queue)
        self._make = make
        self._task = bounded_task(bounds)
        self._most_per_user = most_per_user

    async def create(self, user_id: str, body: Any) -> dict[str, Any]:
        """Make the schedule that a JSON body asks for; return it as it is on the wire.

        Raise Problem 422, ScheduleRefused; ScheduleConflict when there is one of this name, or
        there are too many.
        """
        request, definition = await self._read(user_id, body)
        try:
            await self._write(None, definition, request.enabled)
        except ScheduleChanged:
            raise ScheduleConflict(
                phrase("there is a schedule {name} already", name=definition.name)
            ) from None
        return await self.get(user_id, definition.name)

    async def put(self, user_id: str, name: str, body: Any) -> tuple[dict[str, Any], bool]:
        """Replace a schedule, or make it; return it, and whether it is new. Raise as `create` does.

        A body of `enabled` alone switches it, one of the code too. A result of `get` is a body: its
        read-only fields are skipped.
        """
        if isinstance(body, dict) and body.keys() == {ENABLED}:
            return await self.enable(user_id, name, body[ENABLED]), False
        if isinstance(body, dict):
            given = {field: body[field] for field in body if field not in ONLY_SHOWN}
            body = {"name": name, **given}
            if body["name"] != name:
                raise ScheduleRefused(
                    [phrase("name must be that of the address, {name}", name=name)]
                )
            if is_of_kind(name):
                raise ScheduleConflict(
                    phrase(
                        "{name} stands in the code of its kind: only enabled can be changed",
                        name=name,
                    )
                )
        request, definition = await self._read(user_id, body)
        while True:
            old = await self._find(user_id, name)
            try:
                await self._write(old, definition, request.enabled)
            except ScheduleChanged:
                continue
            return await self.get(user_id, name), old is None

    async def get(self, user_id: str, name: str) -> dict[str, Any]:
        """Return a schedule as it is on the wire. Raise ScheduleNotFound."""
        stored, definition = await self._readable(user_id, name)
        lengths = await self._queue.read_lengths([definition.kind])
        return stored.describe(definition, lengths.get(definition.kind))

    async def find(self, user_id: str | None, after: str, limit: int) -> dict[str, Any]:
        """Return a page of schedules by name, None: everybody's by user.

        `after` is the `next` of the page before, "" for the first: a name, and in everybody's list
        an id.
        """
        if user_id is None:
            found = await self._store.list_all(after, limit)
        else:
            found = await self._store.list_of(user_id, after, limit)
        readable = [
            (one, one.definition)
            for one in found.items
            if one.definition and user_id in (None, one.definition.user_id)
        ]
        lengths = await self._queue.read_lengths(definition.kind for _, definition in readable)
        shown = [one.describe(its, lengths.get(its.kind)) for one, its in readable]
        full = len(found.items) == limit
        return {"items": shown, "next": _place_of(found, user_id) if full else None}

    async def delete(self, user_id: str, name: str) -> None:
        """Drop a schedule; its tasks stay. Raise ScheduleNotFound.

        One of the code comes back when a process that has it starts.
        """
        while True:
            old = await self._find(user_id, name)
            if old is None:
                raise ScheduleNotFound(name)
            try:
                return await self._store.write([Write(old.id, old.text, b"")])
            except ScheduleChanged:
                continue

    async def enable(self, user_id: str, name: str, enabled: Any) -> dict[str, Any]:
        """Switch a schedule on or off; return it. Raise ScheduleNotFound, ScheduleRefused."""
        if not isinstance(enabled, bool):
            raise ScheduleRefused([at_place(ENABLED, phrase("must be {kind}", kind=NAMES[bool]))])
        while True:
            stored, definition = await self._readable(user_id, name)
            goes_on = stored.due is not None or not enabled
            due = None if goes_on else _next_of(definition, await self._store.now())
            try:
                # As it is kept: a later version may have said more.
                await self._store.write(
                    [Write(stored.id, stored.text, stored.text, due, not enabled)]
                )
            except ScheduleChanged:
                continue
            return await self.get(user_id, name)

    async def run_now(self, user_id: str, name: str, once: Idempotency | None = None) -> Task:
        """Make a task of a schedule now, whether it is on or not; return that.

        Raise ScheduleNotFound; ScheduleConflict when its last task has not ended, or too many wait;
        KindUnknown and ParamsFault when its kind does not take it any more.
        """
        task_id = task_id_of(schedule_id(user_id, name), _occasion_of(user_id, once))
        while True:
            stored, definition = await self._readable(user_id, name)
            now = await self._store.now()
            firing = Firing(
                id=stored.id,
                definition=stored.text,
                user_id=user_id,
                overlap=definition.overlap,
                new=await new_task(definition, self._make),
                occasions=[Occasion(task_id, now, now)],
            )
            try:
                fired = await self._store.fire(firing)
            except ScheduleChanged:
                continue
            break
        task = await self._queue.get_task(task_id)
        if task is None:
            reason = Text(REASONS.get(fired.why, fired.why)) or phrase("another was quicker")
            raise ScheduleConflict(phrase("{name} is not run: {reason}", name=name, reason=reason))
        return task

    async def _read(self, user_id: str, body: Any) -> tuple[ScheduleRequest, Definition]:
        """Read a body. Raise Problem 422, or ScheduleRefused, with all that is wrong with it."""
        if not isinstance(body, dict):
            raise ScheduleRefused([phrase("the body must be a JSON object")])
        faults: list[str] = [
            phrase("a schedule has no {name}", name=one) for one in OF_ONE_TASK if one in body
        ]
        timing = {name: body[name] for name in TIMING if name in body}
        task = {name: body[name] for name in body if name not in (*TIMING, *OF_ONE_TASK)}
        request, wrong = read_part(timing, ScheduleRequest)
        asked, more = read_part(task, self._task)
        faults += [*wrong, *more]
        if asked is not None:
            asked, more = await self._canonical(asked)
            faults += more
        if faults or request is None or asked is None:
            raise ScheduleRefused(faults)
        return request, _definition(user_id, request, asked)

    async def _canonical(self, asked: TaskRequest) -> tuple[TaskRequest, list[str]]:
        """Return what is asked with the parameters as the kind keeps them, and its faults."""
        try:
            new = await self._make(asked)
        except ParamsFault as fault:
            return asked, fault.faults
        except KindUnknown as unknown:
            return asked, [str(unknown)]
        return attrs.evolve(asked, params=new.job.params, tags=list(new.job.tags)), []

    async def _write(
        self, old: StoredSchedule | None, definition: Definition, enabled: bool
    ) -> None:
        """Replace the definition that was read. Raise ScheduleChanged, ScheduleConflict."""
        before = None if old is None else old.definition
        now = await self._store.now()
        if before is None:
            meant = attrs.evolve(definition, start=float(math.floor(now)), token=new_id())
        else:
            meant = attrs.evolve(definition, start=before.start, token=before.token)
        keeps_time = old is not None and before is not None and old.due and before.fires_as(meant)
        due = None if keeps_time else meant.times().next_after(now)
        was = b"" if old is None else old.text
        try:
            write = Write(meant.id, was, meant.text, due, not enabled)
            await self._store.write([write], most=self._most_per_user)
        except TooMany:
            most = self._most_per_user
            raise ScheduleConflict(
                phrase("a user may have at most {most} schedules", most=most)
            ) from None

    async def _find(self, user_id: str, name: str) -> StoredSchedule | None:
        found: FoundSchedules = await self._store.read([schedule_id(user_id, name)])
        return next(iter(found.items), None)

    async def _readable(self, user_id: str, name: str) -> tuple[StoredSchedule, Definition]:
        stored = await self._find(user_id, name)
        if stored is None or stored.definition is None:
            raise ScheduleNotFound(name)
        return stored, stored.definition


def _definition(user_id: str, request: ScheduleRequest, asked: TaskRequest) -> Definition:
    when = {name: getattr(request, name) for name in TIMING if name != ENABLED}
    return Definition(user_id=user_id, **fields_of_task(asked), **when)


def _next_of(definition: Definition, now: float) -> float | None:
    """Return the next time of one that is kept. Raise ScheduleRefused."""
    try:
        return definition.times().next_after(now)
    except ScheduleFault as fault:
        # It is of a later version, or this machine does not have its time zone.
        raise ScheduleRefused([str(fault)]) from None


def _occasion_of(user_id: str, once: Idempotency | None) -> str:
    """Return what names a task that is asked for: a repeated request asks for the same."""
    if once is None:
        return new_id()
    return hashlib.sha256(f"{user_id}\0{once.key}".encode()).hexdigest()[:16]


def _place_of(found: FoundSchedules, user_id: str | None) -> str:
    """Return where the page behind what was found begins."""
    last = found.items[-1].id
    return last if user_id is None else last.partition(BETWEEN)[2]
