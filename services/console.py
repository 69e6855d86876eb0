"""`run.py queue`: what is done to the queue from the command line."""

import getpass
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import orjson

from services.finding import EVERYBODY, FAILURES, TaskFilter
from services.operating import Operator
from services.queue import (
    ALL_KINDS,
    LimitsRefused,
    QueueError,
    QueueService,
    TaskState,
    describe_dead,
)
from tornado_rt.noting import Act, Note, noted

LISTED_DEAD = 1000
MOST_RERUN = 1_000_000
# Actions that change something, whatever they are given; `limits` does when it is given a change.
CHANGING = ("retry", "discard", "pause", "resume", "drain", "purge")
FILTER = ("status", "kind", "user", "tag", "limit")


class CommandFault(ValueError):
    """A command is not complete, or has too much; the message says what it needs."""


@attrs.frozen
class AskedAction:
    """The arguments behind the action; what was not given is empty."""

    names: Sequence[str] = ()
    kind: str = ""
    status: TaskState | None = None
    user: str = ""
    tag: str = ""
    limit: int = 0
    drop: bool = False


@attrs.frozen
class ToldAnswer:
    """The output of a command, `notes` on stderr; `failed`: it did not do all, or found faults."""

    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    failed: bool = False


async def _list_dead(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    most = asked.limit or LISTED_DEAD
    dead = await Operator(queue).list_dead(asked.kind, asked.user, most + 1)
    notes = (
        [f"there are more dead tasks than the {most} shown: see --limit"]
        if len(dead) > most
        else []
    )
    return ToldAnswer([_json(describe_dead(task)) for task in dead[:most]], notes)


async def _list_workers(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    workers = await queue.read_workers()
    return ToldAnswer([_json(one) for one in workers if asked.kind in ("", *one["kinds"])])


async def _check(queue: QueueService, _: AskedAction) -> ToldAnswer:
    faults = await queue.check_invariants()
    return ToldAnswer(faults or ["every task is in its place"], failed=bool(faults))


async def _retry(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    if asked.names:
        if any(getattr(asked, name) for name in FILTER):
            raise CommandFault("name tasks, or say which by options: not both")
        return await _each(asked.names, queue.rerun_task, "run again")
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
    return ToldAnswer([_tasks(rerun.count, "run again")])


async def _discard(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    if not asked.names:
        raise CommandFault("name tasks")
    return await _each(asked.names, queue.discard_task, "discarded")


async def _each(
    names: Sequence[str], change: Callable[[str], Awaitable[object]], what: str
) -> ToldAnswer:
    """Change every task that is named; those that cannot be changed keep no other from it."""
    ids, faults = dict.fromkeys(names), []
    for task_id in ids:
        try:
            await change(task_id)
        except QueueError as error:
            faults.append(str(error))
    return ToldAnswer([_tasks(len(ids) - len(faults), what)], faults, failed=bool(faults))


async def _pause(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    running = await Operator(queue).pause(_kind_of(asked.names, asked))
    return ToldAnswer([_tasks(running, "still running")])


async def _resume(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    await Operator(queue).resume(_kind_of(asked.names, asked))
    return ToldAnswer()


async def _purge(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    if asked.status is None:
        raise CommandFault("say which tasks: --status")
    kind, user = _kind_of(asked.names, asked), _user_of(asked)
    purged = await Operator(queue).purge(asked.status, kind, user, asked.limit, tag=asked.tag)
    return ToldAnswer([_tasks(purged.count, "purged")])


async def _limits(queue: QueueService, asked: AskedAction) -> ToldAnswer:
    operator = Operator(queue)
    changes = dict(_assignment(name) for name in asked.names if "=" in name)
    kind = _kind_of([name for name in asked.names if "=" not in name], asked)
    if asked.drop and changes:
        raise CommandFault("change limits, or drop their changes: not both")
    if asked.drop:
        return ToldAnswer([_json(await operator.change_limits(kind, None))])
    if changes:
        return ToldAnswer([_json(await operator.change_limits(kind, changes))])
    return ToldAnswer([_json(await operator.read_limits(kind))])


@attrs.frozen
class QueueAction:
    """An action, its purpose in one line, and what it takes: `names` is as the usage has them."""

    run: Callable[[QueueService, AskedAction], Awaitable[ToldAnswer]]
    purpose: str
    names: str = ""
    options: Sequence[str] = ()


ACTIONS: dict[str, QueueAction] = {
    "dead": QueueAction(
        _list_dead,
        f"show dead tasks, the last to die first, {LISTED_DEAD} without --limit",
        options=("kind", "user", "limit"),
    ),
    "workers": QueueAction(
        _list_workers, "show the workers that live, inside and elsewhere", options=("kind",)
    ),
    "check": QueueAction(_check, "show what does not fit together in the queue; all others wait"),
    "retry": QueueAction(
        _retry,
        "run tasks again: those that are named, or those failed and dead that the options find",
        names="[TASK ...]",
        options=FILTER,
    ),
    "discard": QueueAction(
        _discard, "delete tasks that failed, are dead, or cannot be read", names="TASK ..."
    ),
    "pause": QueueAction(_pause, "start no task of a kind, or none at all", "[KIND]", ("kind",)),
    "resume": QueueAction(_resume, "start tasks again", "[KIND]", ("kind",)),
    # An operator who pauses wants to know what still runs.
    "drain": QueueAction(
        _pause, "do as pause does: repeat it until 0 tasks run", "[KIND]", ("kind",)
    ),
    "purge": QueueAction(
        _purge,
        "cancel the tasks that wait, or delete those that ended, all in the state --status",
        names="[KIND]",
        options=FILTER,
    ),
    "limits": QueueAction(
        _limits,
        "show the limits of a kind, or those over all kinds, or change them",
        names="[KIND] [LIMIT=VALUE ...]",
        options=("kind", "drop"),
    ),
}


async def run_noted(queue: QueueService, note: Note, name: str, asked: AskedAction) -> ToldAnswer:
    """Run an action; what changes anything is noted, as done by the user of the system.

    Raise what the action raises.
    """
    if not _changes(name, asked):
        return await ACTIONS[name].run(queue, asked)
    result: Any = None
    status = 1
    try:
        told = await ACTIONS[name].run(queue, asked)
        result, status = [*told.lines, *told.notes], int(told.failed)
    except Exception as error:
        result = {"detail": str(error)}
        raise
    finally:
        given = attrs.asdict(asked, filter=lambda _, value: bool(value))
        await note(
            Act(
                user_id=f"system:{_system_user()}",
                via="command",
                address=None,
                action=f"queue {name}",
                data=noted(given),
                status=status,
                result=noted(result),
            )
        )
    return told


def _changes(name: str, asked: AskedAction) -> bool:
    if name == "limits":
        return asked.drop or any("=" in one for one in asked.names)
    return name in CHANGING


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return str(os.getuid())


def check_asked(name: str, asked: AskedAction) -> None:
    """Raise CommandFault for what an action does not take."""
    action = ACTIONS[name]
    if asked.names and not action.names:
        raise CommandFault(f"queue {name} takes no name: {asked.names[0]}")
    for option in (*FILTER, "drop"):
        if getattr(asked, option) and option not in action.options:
            raise CommandFault(f"queue {name} does not take --{option}")


def _kind_of(names: Sequence[str], asked: AskedAction) -> str:
    """Return the kind that is named, by its place or as an option; that of all without one."""
    named = [*names, *filter(None, [asked.kind])]
    if len(named) > 1:
        raise CommandFault("name one kind")
    return named[0] if named else ALL_KINDS


def _user_of(asked: AskedAction) -> str:
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
