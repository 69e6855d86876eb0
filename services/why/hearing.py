"""Whether the user of a task has heard of its end, and why not."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.notifications.preferences import Mute
from services.queue import TaskState
from services.webhooks import Posted
from services.why.gathering import ENDS, Facts
from services.why.words import ToldCause
from tornado_rt.devices import ALL_TASKS, INBOX, DeviceRecord
from tornado_rt.protocol import CloseCode

MUTES = {
    Mute.TYPE: "muted_type",
    Mute.SEVERITY: "muted_severity",
    Mute.QUIET_HOURS: "quiet_hours",
}
CLOSED = {
    CloseCode.UNAUTHORIZED.value: "token_expired",
    CloseCode.TOO_SLOW.value: "slow_reader",
    CloseCode.PONG_TIMEOUT.value: "pong_timeout",
    CloseCode.GOING_AWAY.value: "server_stopped",
}
# These are faults, or what a user has chosen: they come before how the task ended.
HINDRANCES = {
    "outbox_store_away",
    "outbox_waits",
    "outbox_refused",
    "store_away",
    "slow_reader",
    "token_expired",
    "pong_timeout",
    *MUTES.values(),
}
# The value of `notify` in an entry that makes no notification.
QUIET = {"0", "c"}


def hearing(facts: Facts) -> ToldCause:
    """Return why the user of an ended task has heard of its end, or has not."""
    if facts.entry is not None:
        return ToldCause(_waiting_code(facts))
    if facts.queue.notify in QUIET:
        return _quiet(facts)
    if facts.told is None:
        return ToldCause("store_away" if facts.is_store_away else "notification_gone")
    told, user = facts.told.notification, facts.queue.task.user_id
    if told.read_at is not None:
        return ToldCause("read", {"user": user, "read_at": seconds_of(told.read_at)})
    if told.seen_at is not None:
        return ToldCause("seen", {"user": user, "seen_at": seconds_of(told.seen_at)})
    if facts.told.muted_for is not None:
        variables = {"user": user, "type": told.type, "severity": told.severity}
        return ToldCause(MUTES[facts.told.muted_for], variables)
    return _by_devices(facts, seconds_of(told.created_at), INBOX, ALL_TASKS, _topic(facts))


def _waiting_code(facts: Facts) -> str:
    assert facts.entry is not None
    if facts.entry.set_aside:
        return "outbox_refused"
    return "outbox_store_away" if facts.is_store_away else "outbox_waits"


def _quiet(facts: Facts) -> ToldCause:
    code = "told_by_batch" if facts.queue.task.batch_id else "not_asked"
    # Followers of the task itself are told of its end all the same.
    found = _by_devices(facts, facts.queue.task.ended_at or 0.0, ALL_TASKS, _topic(facts))
    return found if found.code in HINDRANCES else ToldCause(code)


def _topic(facts: Facts) -> str:
    return f"task:{facts.queue.task.task_id}"


def following(facts: Facts) -> list[DeviceRecord]:
    """Return the connections that follow the task, or all news of its user."""
    return [one for one in facts.devices if one.follows(INBOX, ALL_TASKS, _topic(facts))]


def sent_to(facts: Facts, at: float) -> list[DeviceRecord]:
    """Return the connections that were open at a time, but for those that read too slowly."""
    return [one for one in following(facts) if one.was_open(at) and not _is_slow(one)]


def _by_devices(facts: Facts, at: float, *topics: str) -> ToldCause:
    user = facts.queue.task.user_id
    devices = [one for one in facts.devices if one.follows(*topics)]
    written = [one for one in devices if one.was_open(at) and not _is_slow(one)]
    if written:
        return ToldCause("delivered", {"user": user, "devices": len(written)})
    later = next((one for one in devices if one.opened_at > at), None)
    if later is not None:
        return ToldCause("came_back", {"user": user, "opened_at": later.opened_at})
    return _closed([one for one in devices if one.opened_at <= at], user)


def _closed(devices: Sequence[DeviceRecord], user: str) -> ToldCause:
    if not devices:
        return ToldCause("nobody_connected", {"user": user})
    last = max(devices, key=lambda one: one.closed_at or one.opened_at)
    variables = {"user": user, "closed_at": last.closed_at, "close_code": last.code}
    return ToldCause(reason_of(last), variables)


def reason_of(device: DeviceRecord) -> str:
    """Return the code of why a connection was closed."""
    return "server_killed" if device.is_cut else CLOSED.get(device.code, "device_left")


def _is_slow(device: DeviceRecord) -> bool:
    return device.code == CloseCode.TOO_SLOW


def post_trouble(facts: Facts) -> ToldCause | None:
    """Return why a webhook or the callback has not had the end; None when all have."""
    for post in facts.posts:
        told = post_state(post)
        if told.code != "post_delivered":
            return told
    return None


def post_state(post: Posted) -> ToldCause:
    """Return what became of a post."""
    task, variables = post.delivery, post_variables(post)
    if task.status == TaskState.COMPLETED:
        return ToldCause("post_delivered", variables, task.ended_at)
    failures = [one for one in task.attempts if one["error"]]
    if task.status in ENDS:
        return ToldCause("post_refused", {**variables, "error": task.error}, task.ended_at)
    if post.disabled:
        return ToldCause("post_disabled", {**variables, "error": post.disabled})
    if not failures:
        return ToldCause("post_waits", variables)
    more = {"times": len(failures), "error": failures[-1]["error"], "run_at": task.run_at}
    return ToldCause("post_failing", {**variables, **more})


def post_variables(post: Posted) -> dict[str, Any]:
    """Return where a post goes."""
    return {"host": post.host, **({"webhook_id": post.webhook_id} if post.webhook_id else {})}


def seconds_of(moment: datetime) -> float:
    """Return a time in seconds since the epoch."""
    return moment.timestamp()
