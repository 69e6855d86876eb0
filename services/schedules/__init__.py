"""Schedules: tasks that are made by the clock."""

from services.schedules.code import KindSchedules, schedules_of
from services.schedules.models import (
    SCHEDULES,
    Make,
    Overlap,
    ScheduleConflict,
    ScheduleNotFound,
    ScheduleRefused,
)
from services.schedules.runner import ScheduleRunner
from services.schedules.service import ScheduleService

__all__ = [
    "SCHEDULES",
    "KindSchedules",
    "Make",
    "Overlap",
    "ScheduleConflict",
    "ScheduleNotFound",
    "ScheduleRefused",
    "ScheduleRunner",
    "ScheduleService",
    "schedules_of",
]
