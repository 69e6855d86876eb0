"""A report that is made each night from what other systems have written, as its developer wrote it.

What they have written may come late: the report is tried again until it is there.
"""

from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, Schedule, SyncRun

NUMBERS = Path("numbers")


@attrs.frozen
class Report:
    """Of which department."""

    department: str


report = Kind(
    "report.nightly",
    Report,
    title="Nightly report",
    label="Report of {department}",
    steps=["collect", "write"],
    limit=1,
    max_attempts=50,
    backoff=(0.05, 0.2),
    schedules=[
        Schedule(
            name="sales",
            cron="30 4 * * mon-fri",
            timezone="Europe/Berlin",
            params={"department": "sales"},
            user_id="rosa",
        )
    ],
)


@report.handler
def make(params: Report, run: SyncRun) -> dict[str, Any]:
    """Add up the numbers of a department."""
    with run.step("collect"):
        numbers = [int(line) for line in (NUMBERS / params.department).read_text().split()]
    with run.step("write"):
        return {"department": params.department, "total": sum(numbers)}
