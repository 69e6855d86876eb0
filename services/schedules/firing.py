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
    Stored,
    task_id_of,
)
from services.schedules.store import Firing, Occasion
from services.schedules.times import ScheduleFault, Times, jitter_of
from tornado_rt.redis import is_outage
from tornado_rt.work import clean_line

log = structlog.get_logger(__name__)

# A time is missed when it is longer ago: a restart, or an outage of Redis, may take this long.
ON_TIME_SECONDS = 60.0
MOST_MADE_UP = 100
# A schedule that this process cannot read is looked at again after this time: another process, of
# a later version or with more time zones, may read it.
AGAIN_SECONDS = 60.0
REASON_LENGTH = 200
UNREADABLE = "its definition cannot be read"


async def fire_due(one: Stored, due: float, now: float, make: Make) -> Firing:
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
    moments = moments_due(times, definition, due, now)
    firing = attrs.evolve(
        bare, user_id=definition.user_id, overlap=definition.overlap, next_time=next_time
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
        return attrs.evolve(firing, dropped=len(moments), why=_reason(error))
    return attrs.evolve(firing, new=new, occasions=[occasion(definition, at) for at in moments])


async def new_task(definition: Definition, make: Make) -> NewTask:
    """Return the task that a schedule makes. Raise KindUnknown, ParamsFault."""
    new = await make(definition.request())
    return attrs.evolve(new, job=attrs.evolve(new.job, schedule=definition.name))


def occasion(definition: Definition, at: float) -> Occasion:
    """Return the task that is made for a time: put off by its jitter."""
    put_off = jitter_of(definition.id, at, definition.jitter)
    return Occasion(task_id_of(definition.id, str(math.floor(at))), at, at + put_off)


def moments_due(times: Times, definition: Definition, due: float, now: float) -> Sequence[float]:
    """Return the times for which a task is made now, the first first.

    Each within the last minute is on time. Of those before, which were missed, there are as many as
    the definition wants; "last" is the last of all. No more than 100 are made up for.
    """
    since = due if definition.missed is Missed.ALL else max(due, now - ON_TIME_SECONDS)
    # Each of these would replace the one before at once.
    most = 1 if definition.overlap is Overlap.REPLACE else MOST_MADE_UP
    found = _latest(times, due, since, now, most)
    if not found and definition.missed is Missed.LAST:
        return _latest(times, due, due, now, 1)
    return found


def _latest(times: Times, due: float, since: float, now: float, most: int) -> Sequence[float]:
    """Return the last times from `since` on; `due` is one, whatever the clock says by now."""
    found = times.latest(max(due, math.nextafter(since, -math.inf)), now, most)
    return [due, *found] if since <= due and len(found) < most else found


def _reason(error: Exception) -> str:
    return clean_line(str(error) or type(error).__name__, REASON_LENGTH)
