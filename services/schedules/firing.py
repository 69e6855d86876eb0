"""Fire a schedule: find the tasks that it makes now, and when it is due next."""

import math
from collections.abc import Sequence

import attrs
import structlog

from services.kinds import KindUnknown, ParamsFault
from services.queue import NewTask
from services.schedules.models import (
    Definition,
    Make,
    Missed,
    Overlap,
    StoredSchedule,
    task_id_of,
)
from services.schedules.store import Firing, Occasion
from services.schedules.times import ScheduleFault, Times, jitter_of
from tornado_rt.redis import is_outage
from tornado_rt.work import clean_line

log = structlog.get_logger(__name__)

# The last time is missed when it is longer ago: a restart, or an outage of Redis, may take this
# long. Those before it are missed in any case.
ON_TIME_SECONDS = 60.0
MOST_MADE_UP = 100
# Most times that one firing passes over and counts.
MOST_COUNTED = 1000
# A schedule that this process cannot read is looked at again after this time: another process, of
# a later version or with more time zones, may read it.
AGAIN_SECONDS = 60.0
REASON_LENGTH = 200
UNREADABLE = "its definition cannot be read"
MISSED = "it was missed while nothing ran"


async def fire_due(one: StoredSchedule, due: float, now: float, make: Make) -> Firing:
    """Return what a schedule does that has been due since the time `due` [s].

    Whatever is wrong with it stops no other: then it makes no task and says why. Raise what a store
    raises that does not answer.
    """
    definition = one.definition
    bare = Firing(
        id=one.id, definition=one.text, user_id="", expected=due, next_time=now + AGAIN_SECONDS
    )
    if definition is None:
        return attrs.evolve(bare, dropped=1, why=UNREADABLE)
    try:
        times = definition.times()
        next_time = times.next_after(now)
    except ScheduleFault as fault:
        return attrs.evolve(bare, dropped=1, why=_reason(fault))
    moments, missed = moments_due(times, definition, due, now)
    firing = attrs.evolve(
        bare,
        user_id=definition.user_id,
        overlap=definition.overlap,
        next_time=next_time,
        dropped=missed,
        why=MISSED if missed else "",
    )
    if not moments:
        return firing
    try:
        new = await new_task(definition, make)
    except Exception as error:
        if is_outage(error):
            raise
        if not isinstance(error, KindUnknown | ParamsFault):
            log.exception("schedule_fails", schedule=one.id)
        return attrs.evolve(firing, dropped=missed + len(moments), why=_reason(error))
    return attrs.evolve(firing, new=new, occasions=[occasion(definition, at) for at in moments])


async def new_task(definition: Definition, make: Make) -> NewTask:
    """Return the task that a schedule makes. Raise KindUnknown, ParamsFault."""
    new = await make(definition.request())
    return attrs.evolve(new, job=attrs.evolve(new.job, schedule=definition.name))


def occasion(definition: Definition, at: float) -> Occasion:
    """Return the task that is made for a time: put off by its jitter."""
    put_off = jitter_of(definition.id, at, definition.jitter)
    return Occasion(task_id_of(definition.id, str(math.floor(at))), at, at + put_off)


def moments_due(
    times: Times, definition: Definition, due: float, now: float
) -> tuple[Sequence[float], int]:
    """Return the times for which a task is made now, the first first, and how many are missed.

    Only the last one can be on time: at most a minute ago. With "skip" a task is made for that
    alone, with "last" for the last one however long ago, with "all" for the last 100.
    """
    makes_all = definition.missed is Missed.ALL and definition.overlap is not Overlap.REPLACE
    # Each of several would replace the one before at once.
    most = MOST_MADE_UP if makes_all else 1
    # `due` is one of them, whatever the clock says by now.
    found = [due, *times.latest(due, now, most)][-most:]
    if definition.missed is Missed.SKIP and found[-1] < now - ON_TIME_SECONDS:
        found = []
    others = 1 - len(found)
    return found, others + times.count(due, now, MOST_COUNTED - others)


def _reason(error: Exception) -> str:
    return clean_line(str(error) or type(error).__name__, REASON_LENGTH)
