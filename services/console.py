"""`run.py queue`: what is done to the queue from the command line."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import attrs
import orjson

from services.finding import EVERYBODY, FAILURES, TaskFilter
from services.operating import Operator
from services.queue import ALL_KINDS, LimitsRefused, QueueService, TaskState, describe_dead

LISTED_DEAD = 1000
MOST_RERUN = 1_000_000


class CommandFault(ValueError):
    """A command is not complete; the message says what it needs."""


class Asked(Protocol):
    """The arguments behind the action."""

    names: Sequence[str]
    kind: str
    status: TaskState | None
    user: str
    tag: str
    limit: int
    drop: bool


@attrs.frozen
class Told:
    """The output of a command; `failed`: something is wrong with the queue."""

    lines: Sequence[str] = ()
    failed: bool = False


async def _list_dead(queue: QueueService, _: Asked) -> Told:
    return Told([_json(describe_dead(task)) for task in await queue.list_dead(LISTED_DEAD)])


async def _check(queue: QueueService, _: Asked) -> Told:
    faults = await queue.check_invariants()
    return Told(faults or ["every task is in its place"], failed=bool(faults))


async def _retry(queue: QueueService, asked: Asked) -> Told:
    for task_id in asked.names:
        await queue.rerun_task(task_id)
    if asked.names:
        return Told()
    if asked.status not in (None, *FAILURES):
        raise CommandFault(f"--status must be one of {', '.join(FAILURES)}")
    if asked.status is None and not (asked.kind or asked.user or asked.tag):
        raise CommandFault("name tasks, or say which: --status, --kind, --user, --tag")
    wanted = TaskFilter(
        kind=asked.kind,
        tag=asked.tag,
        statuses=FAILURES if asked.status is None else (asked.status,),
        limit=asked.limit or MOST_RERUN,
    )
    rerun = await Operator(queue).rerun_all(_user_of(asked) or None, wanted)
    return Told([_tasks(rerun.count, "run again")])


async def _discard(queue: QueueService, asked: Asked) -> Told:
    for task_id in asked.names:
        await queue.discard_task(task_id)
    return Told()


async def _pause(queue: QueueService, asked: Asked) -> Told:
    running = await Operator(queue).pause(_kind_of(asked))
    return Told([_tasks(running, "still running")])


async def _resume(queue: QueueService, asked: Asked) -> Told:
    await Operator(queue).resume(_kind_of(asked))
    return Told()


async def _purge(queue: QueueService, asked: Asked) -> Told:
    if asked.status is None:
        raise CommandFault("say which tasks: --status")
    purged = await Operator(queue).purge(
        asked.status, _kind_of(asked), _user_of(asked), asked.limit
    )
    return Told([_tasks(purged.count, "purged")])


async def _limits(queue: QueueService, asked: Asked) -> Told:
    operator = Operator(queue)
    changes = dict(_assignment(name) for name in asked.names if "=" in name)
    kind = _kind_of(asked)
    if asked.drop:
        return Told([_json(await operator.change_limits(kind, None))])
    if changes:
        return Told([_json(await operator.change_limits(kind, changes))])
    return Told([_json(await operator.read_limits(kind))])


Action = Callable[[QueueService, Asked], Awaitable[Told]]

ACTIONS: dict[str, Action] = {
    "dead": _list_dead,
    "check": _check,
    "retry": _retry,
    "discard": _discard,
    "pause": _pause,
    "resume": _resume,
    # An operator who pauses wants to know what still runs.
    "drain": _pause,
    "purge": _purge,
    "limits": _limits,
}


def _kind_of(asked: Asked) -> str:
    """Return the kind that is named, by its place or as an option; that of all without one."""
    named = [name for name in asked.names if "=" not in name]
    if len(named) > 1:
        raise CommandFault("name one kind")
    return asked.kind or (named[0] if named else ALL_KINDS)


def _user_of(asked: Asked) -> str:
    """Return the user that is named, "" for everybody."""
    return "" if asked.user == EVERYBODY else asked.user


def _assignment(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name:
        raise LimitsRefused(f"{text} names no limit")
    return name, int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else value


def _tasks(count: int, what: str) -> str:
    return f"1 task {what}" if count == 1 else f"{count} tasks {what}"


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
