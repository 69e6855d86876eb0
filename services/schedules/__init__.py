"""Schedules: tasks that are made by the clock."""

from services.schedules.code import KindSchedules, schedules_of
from services.schedules.models import (
    SCHEDULES,
    Definition,
    Make,
    Missed,
    Overlap,
    ScheduleConflict,
    ScheduleNotFound,
    ScheduleRefused,
    Source,
)
from services.schedules.runner import ScheduleRunner
from services.schedules.service import ScheduleService
from services.schedules.times import Cron, Interval, ScheduleFault, Times, times_of

__all__ = [
    "SCHEDULES",
    "Cron",
    "Definition",
    "Interval",
    "KindSchedules",
    "Make",
    "Missed",
    "Overlap",
    "ScheduleConflict",
    "ScheduleFault",
    "ScheduleNotFound",
    "ScheduleRefused",
    "ScheduleRunner",
    "ScheduleService",
    "Source",
    "Times",
    "schedules_of",
    "times_of",
]
