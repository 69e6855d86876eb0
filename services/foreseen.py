"""Show when a task or batch would start and end if it were submitted now."""

from typing import Any

import attrs

from services.queue import Band, NewTask, StartEstimate, iso_of
from services.waiting import waiting_for

# Digits behind the point of seconds.
DIGITS = 1


@attrs.frozen
class _Submission:
    """A task that would wait, as `waiting_for` reads it."""

    kind: str
    key: str
    run_at: float | None
    waiting_for: str


def describe_estimate(found: StartEstimate, new: NewTask, run_at: float) -> dict[str, Any]:
    """Return an estimate as it is on the wire; `run_at` [s] is when it may start, 0: now."""
    would = _Submission(new.kind, new.key, run_at or None, found.waiting_for)
    # While nothing is paused it has a start if there is a worker.
    held = waiting_for(would, is_served=found.starts is not None)
    starts, runs, ends = found.starts, found.runs, found.ends
    return {
        "dry_run": True,
        "kind": new.kind,
        "label": new.job.label,
        "position": found.position,
        **_seconds("starts_in", "starts_in_low", "starts_in_high", starts),
        **_seconds("remaining_time", "remaining_low", "remaining_high", runs),
        "starts_at": starts and iso_of(found.at + starts.middle),
        "ends_at": ends and iso_of(found.at + ends.middle),
        "ends_at_low": ends and iso_of(found.at + ends.low),
        "ends_at_high": ends and iso_of(found.at + ends.high),
        **({"waiting_for": held} if held else {}),
    }


def _seconds(middle: str, low: str, high: str, band: Band | None) -> dict[str, float | None]:
    if band is None:
        return dict.fromkeys((middle, low, high))
    told = {middle: band.middle, low: band.low, high: band.high}
    return {name: round(seconds, DIGITS) for name, seconds in told.items()}
