"""Messages in which workers elsewhere describe themselves."""

import re
from typing import Any

import attrs

from services.remote.items import Named
from tornado_rt.bounds import OutOfBounds, number_of
from tornado_rt.json_body import MOST_BYTES
from tornado_rt.work.texts import phrase

WORKER_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
INFO_BYTES = {MOST_BYTES: 1024}
LEAST_LEASE_SECONDS = 5.0
MOST_SECONDS = 86400.0


def _is_worker_id(_: Any, field: Any, value: str) -> None:
    if not WORKER_ID.fullmatch(value):
        raise OutOfBounds(phrase("{name} must be 1 to 100 of A-Z a-z 0-9 . _ : -", name=field.name))


def _is_lease(_: Any, field: Any, value: float | None) -> None:
    if value is not None and not LEAST_LEASE_SECONDS <= value <= MOST_SECONDS:
        raise OutOfBounds(
            phrase(
                "{name} must be {least} seconds or more",
                name=field.name,
                least=f"{LEAST_LEASE_SECONDS:g}",
            )
        )


@attrs.frozen(kw_only=True)
class WorkRequest:
    """A connected worker: its kinds, its places, and what it still runs."""

    worker_id: str = attrs.field(validator=_is_worker_id)
    kinds: list[Any]
    slots: int = attrs.field(validator=number_of(0, 10**6))
    running: list[Named] = attrs.field(factory=list)
    info: dict[str, Any] = attrs.field(factory=dict, metadata=INFO_BYTES)


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """A claim over HTTP. `wait` and `lease` in seconds; None: the lease of the queue."""

    worker_id: str = attrs.field(validator=_is_worker_id)
    kinds: list[Any]
    count: int = attrs.field(default=1, validator=number_of(0, 10**6))
    wait: float = attrs.field(default=0.0, validator=number_of(0, MOST_SECONDS))
    running: list[Named] = attrs.field(factory=list)
    lease: float | None = attrs.field(default=None, validator=_is_lease)
    info: dict[str, Any] = attrs.field(factory=dict, metadata=INFO_BYTES)


@attrs.frozen(kw_only=True)
class ExtendRequest:
    """The time by which leases are extended [s], None: as the queue does."""

    lease: float | None = attrs.field(default=None, validator=_is_lease)
