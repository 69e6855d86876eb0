"""Reading why a task is where it is: its record, what holds it back, who has it, rare events."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgpack
import orjson

from services.queue.access import QueueAccess
from services.queue.kinds import unpack_limits
from services.queue.models import Task
from services.queue.replies import fields_of, read_task

# The place of the worker among what is kept of an ended attempt.
WORKER = 5
LEASE_UNIT = 0.001


@attrs.frozen
class Noted:
    """A rare event of a task: its code, when it was last, how often, who or what."""

    code: str
    at: float
    times: int
    what: str

    @property
    def pair(self) -> tuple[str, str]:
        """The cause of it, and the person who asked for it."""
        how, _, who = self.what.partition("\n")
        return how, who


@attrs.frozen
class RunningTask:
    """A task that runs, and the worker that has it."""

    task_id: str
    user_id: str
    kind: str
    key: str
    worker_id: str


@attrs.frozen
class KnownWorker:
    """A worker as it last told of itself, at `seen` [s since the epoch].

    `places` 0: not known. `lease_seconds` is how long each of its leases lasts from when it was
    extended, 0: not known. `tasks` are those of one that is elsewhere, as it had them then.
    """

    worker_id: str
    seen: float
    kinds: Sequence[str]
    places: int = 0
    draining: bool = False
    tasks: Sequence[str] = ()
    lease_seconds: float = 0.0


@attrs.frozen(kw_only=True)
class TaskFacts:
    """All that the queue knows of a task at the time `now`.

    `worker_id` has or had its last attempt, `workers_of` the ones before; `lease_ends` None: it has
    no lease. `counts` are of running tasks by the code of the limit that they count for, `limits`
    the bounds by the same codes, `rates` those of its kind. `rate_wait`: seconds until a rate lets
    it start. `running` are 200 at most. `users_before` and `own_before` stand before it, the first
    of its own are `own_ids`. `event_id` is that of its end.

    It is wide because each fact that a script finds is a field.
    """

    task: Task
    now: float
    worker_id: str
    workers_of: Sequence[str]
    lease_ends: float | None
    asked: Sequence[str]
    limits: Mapping[str, int]
    rates: Mapping[str, str]
    order: str
    counts: Mapping[str, int]
    rate_wait: float
    running: Sequence[RunningTask]
    workers: Sequence[KnownWorker]
    users_before: int
    own_before: int
    own_ids: Sequence[str]
    journal: Sequence[Noted]
    since: float | None
    notify: str
    event_id: str


class Explaining(QueueAccess):
    """The verb that explains a task."""

    async def read_facts(self, task_id: str) -> TaskFacts | None:
        """Return what is known of a task; None when there is none."""
        reply = await self.scripts.run("read_why", id=task_id)
        if reply is None:
            return None
        told = msgpack.unpackb(reply, raw=True)
        return _facts({name.decode(): value for name, value in told.items()}, self.limits)


def _facts(told: dict[str, Any], defaults: Any) -> TaskFacts:
    fields = fields_of(told["task"])
    task = read_task(told["task"])
    over_all = attrs.asdict(defaults) | unpack_limits(told["all"])
    own = unpack_limits(told["own"])
    counts = {name.decode(): int(value) for name, value in told["counts"].items()}
    revived = fields["revived"].decode()
    lease = told["lease"]
    return TaskFacts(
        task=task,
        now=float(told["now"]),
        worker_id=_text(fields["worker_id"]),
        workers_of=_workers_of(fields["attempts"]),
        lease_ends=float(lease) * LEASE_UNIT if lease else None,
        asked=[_text(name) for name in told["asked"]],
        limits={
            "user_limit": over_all["user_limit"],
            "global_limit": over_all["global_limit"],
            "kind_limit": own.get("limit", 0),
            "kind_user_limit": own.get("user_limit", 0),
            "key_limit": own.get("key_limit", 0),
        },
        rates={name: own.get(name, "") for name in ("rate", "key_rate")},
        order=over_all["order"],
        counts=counts,
        rate_wait=float(told["wait"]),
        running=[RunningTask(*map(_text, one)) for one in told["running"]],
        workers=list(_workers(told["workers"])),
        users_before=int(told["before"][0]),
        own_before=int(told["before"][1]),
        own_ids=[_text(one) for one in told["own_before"]],
        journal=list(_journal(fields["journal"])),
        since=float(fields["since"]) if fields["since"] else None,
        notify=_text(fields["notify"]),
        event_id=task.task_id + ("" if revived == "0" else f":{revived}"),
    )


def _workers_of(packed: bytes) -> list[str]:
    """Return who had each ended attempt; "" for one that an earlier version has kept."""
    return [_text(one[WORKER]) if len(one) > WORKER else "" for one in _unpacked(packed)]


def _journal(packed: bytes) -> Iterator[Noted]:
    for one in _unpacked(packed):
        with contextlib.suppress(ValueError, TypeError):
            code, at, times, what, *_ = one
            yield Noted(_text(code), float(at), int(times), _text(what))


def _workers(flat: Sequence[bytes]) -> Iterator[KnownWorker]:
    for worker_id, told in zip(flat[::2], flat[1::2], strict=True):
        seen, _, content = told.partition(b" ")
        # One that another version has written may be of another form.
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            fields = orjson.loads(content)
            info = fields.get("info") or {}
            yield KnownWorker(
                _text(worker_id),
                float(seen),
                [str(kind) for kind in fields.get("kinds", ())],
                int(info.get("concurrency") or info.get("slots") or 0),
                info.get("draining") is True,
                [str(one) for one in info.get("tasks", ())],
                float(info.get("lease_seconds", 0.0)),
            )


def _unpacked(packed: bytes) -> list[Any]:
    try:
        kept = msgpack.unpackb(packed, raw=True) if packed else []
    except ValueError:
        return []
    return [one for one in kept if isinstance(one, list)] if isinstance(kept, list) else []


def _text(content: Any) -> str:
    return content.decode(errors="replace") if isinstance(content, bytes) else str(content)
