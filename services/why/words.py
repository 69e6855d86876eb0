"""The sentences of all codes: the one place that a catalogue of another language replaces.

A sentence names its variables in braces. Those that are lists become text here too. Times are in
seconds since the epoch until they are shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from services.queue import iso_of

WORDS: dict[str, str] = {
    # Why a task waits.
    "all_paused": "all kinds are paused: nothing starts until an admin resumes them",
    "paused": "{kind} is paused: no task of it starts until an admin resumes it",
    "scheduled": "it is set aside until {run_at}",
    "backoff": "attempt {attempt} of {max_attempts} ended with: {error}; "
    "the next one may start at {run_at}",
    "no_worker": "no worker that lives runs {kind}",
    "user_limit": "{running} of at most {limit} tasks of {user} run: {behind}",
    "kind_user_limit": "{running} of at most {limit} tasks of {kind} of {user} run: {behind}",
    "key_limit": "{running} of at most {limit} tasks of {kind} with the key {key} run: {behind}",
    "kind_limit": "{running} of at most {limit} tasks of {kind} run: {behind}",
    "global_limit": "{running} of at most {limit} tasks run: {behind}",
    "rate": "{kind} may start {rate}: the next one in {seconds} s",
    "key_rate": "{kind} with the key {key} may start {rate}: the next one in {seconds} s",
    "line": "{before} tasks of {kind} are before it",
    "turns": "users take turns, and {users} of them come before {user}",
    "own_line": "{before} earlier tasks of {user} are before it: {behind}",
    "workers_drain": "all workers that run {kind} are stopping, and take nothing more: {workers}",
    "workers_full": "all workers that run {kind} are full: {workers}; they run {behind}",
    "starting": "a worker of {kind} has a free place: it starts in a moment",
    # Where a task is that runs.
    "running": "{worker} runs attempt {attempt} of {max_attempts}: {progress} % done",
    "running_step": "{worker} runs attempt {attempt} of {max_attempts}: "
    "{progress} % done, at the step {step}",
    "asked": "it waits for {user} to answer: {questions}",
    "worker_silent": "{worker} has it, and gives no sign of life for {seconds} s: "
    "its lease ends at {lease_ends}, then the task runs again",
    "worker_gone": "{worker} had it and is gone: its lease ends at {lease_ends}, "
    "then the task runs again",
    "lease_over": "the lease of {worker} ran out at {lease_ends}: the task runs again "
    "as soon as a worker looks",
    # How a task ended.
    "completed": "{worker} completed it",
    "late": "{worker} completed it, and could tell Redis only {seconds} s later: "
    "it was away or slow",
    "failed": "its handler ended it as failed: {error}",
    "attempts_used": "attempt {attempt} of {max_attempts} failed, and there is no other: {error}",
    "retries_used": "attempt {attempt} of {max_attempts} asked for another, "
    "and there is none: {error}",
    "lost_too_often": "its worker was lost in attempt {attempt} of {max_attempts}, "
    "and there is no other",
    "timeout": "it was stopped: attempt {attempt} of {max_attempts} {error}",
    "budget": "its time is used up: it {error}",
    "cancelled": "it was cancelled",
    "cancelled_user": "{who} cancelled it",
    "cancelled_admin": "the admin {who} cancelled it",
    "cancelled_operator": "the operator of the server cancelled it",
    "cancelled_user_batch": "{who} cancelled its batch",
    "cancelled_admin_batch": "the admin {who} cancelled its batch",
    "cancelled_operator_batch": "the operator of the server cancelled its batch",
    "cancelled_replaced": "the task {who} was submitted under its unique key and took its place",
    "cancelled_schedule": "the schedule {who} made another one in its place",
    "cancelled_purge": "an operator cancelled all that waited",
    "forgotten": "it ended as {status}, and is kept no more: "
    "its notification is all that is left of it",
    # Why its user has heard of its end, or not.
    "outbox_store_away": "its end is not told yet: it waits in the outbox, "
    "for MongoDB does not answer",
    "outbox_waits": "its end is not told yet: it waits in the outbox",
    "outbox_refused": "its end could not become a notification, and was set aside",
    "store_away": "MongoDB does not answer: whether its user was told cannot be read",
    "told_by_batch": "its batch tells of its end",
    "not_asked": "its submitter wanted no notification of its end",
    "notification_gone": "its notification is kept no more",
    "read": "{user} read its notification at {read_at}",
    "seen": "{user} saw its notification at {seen_at}, and has not read it",
    "muted_type": "its notification was kept and not pushed: {user} has muted the type {type}",
    "muted_severity": "its notification was kept and not pushed: {user} wants none "
    "of the severity {severity}",
    "quiet_hours": "its notification was kept and not pushed: it came in the quiet hours of {user}",
    "delivered": "its end was sent to {devices} open connections of {user}, and is not read yet",
    "slow_reader": "the last connection of {user} was closed at {closed_at} with {close_code}: "
    "it read too slowly, and what waited for it was dropped",
    "token_expired": "the last connection of {user} was closed at {closed_at} with {close_code}: "
    "its token had expired",
    "pong_timeout": "the last connection of {user} was closed at {closed_at} with {close_code}: "
    "it answered no ping",
    "server_stopped": "the last connection of {user} was closed at {closed_at} with {close_code}: "
    "the server stopped",
    "server_killed": "the server of the last connection of {user} was killed",
    "device_left": "the last connection of {user} was closed at {closed_at} with {close_code}: "
    "the device left",
    "nobody_connected": "no device of {user} was connected when it ended",
    "came_back": "no device of {user} was connected when it ended; "
    "one came at {opened_at} and has it in its inbox",
    "post_refused": "the post to {host} was given up: {error}",
    "post_failing": "the post to {host} failed {times} times: {error}; the next one at {run_at}",
    "post_waits": "the post to {host} waits",
    "post_disabled": "the webhook to {host} is disabled: {error}",
    # The events, in order.
    "submitted": "{user} submitted it as a task of {kind}",
    "submitted_batch": "{user} submitted it with the batch {batch_id}",
    "submitted_schedule": "the schedule {schedule} made it for {user}",
    "submitted_server": "the server made it for {user}",
    "set_aside": "it was set aside until {run_at}",
    "replaces": "it took the place of the task {who}, which had its unique key",
    "asked_again": "it was submitted again under its unique key, {times} times in all",
    "claimed": "{worker} took it: attempt {attempt}",
    "step": "the step {step} began",
    "attempt_error": "attempt {attempt} failed: {error}",
    "attempt_retry": "attempt {attempt} asked for another: {error}",
    "attempt_lost": "the lease of {worker} ran out in attempt {attempt}: the task came back",
    "attempt_ended": "attempt {attempt} ended as {outcome}",
    "connection_lost": "the connection of {worker} was lost",
    "handed_back": "{worker} stopped and handed it back; the attempt does not count",
    "told_late": "the end of the attempt was told {seconds} s late: Redis was away or slow",
    "rerun_user": "{who} had it run again",
    "rerun_admin": "the admin {who} had it run again",
    "rerun_operator": "the operator of the server had it run again",
    "waits": "it waits: {cause}",
    "runs": "it runs: {cause}",
    "ended": "it ended as {status}: {cause}",
    "notified": "its notification was stored",
    "sent": "it was sent to an open connection ({transport})",
    "device_opened": "a device of {user} connected ({transport})",
    "device_closed": "a connection of {user} was closed with {close_code}: {reason}",
    "deleted": "its notification was removed",
    "archived": "{user} archived its notification",
    "post_delivered": "the post to {host} arrived",
    "post_attempt": "the post to {host} failed: {error}",
    "push_sent": "{browsers} browsers of {user} were sent a push of its notification",
    "push_gone": "{browsers} browsers of {user} take no push any more: {error}",
    "push_not_taken": "{browsers} browsers of {user} were not sent a push: {error}",
    "push_not_needed": "no push was needed: {user} had read its notification, or has no browser",
    "push_attempt": "the push to the browsers of {user} failed: {error}",
    "push_refused": "the push to the browsers of {user} was given up: {error}",
    "push_waits": "the push to the browsers of {user} is due at {run_at}",
    "mail_sent": "{user} was sent a mail about its notification",
    "mail_not_needed": "no mail was needed: {user} had read its notification, or wants none",
    "mail_attempt": "the mail to {user} failed: {error}",
    "mail_refused": "the mail to {user} was given up: {error}",
    "mail_waits": "the mail to {user} is due at {run_at}, if its notification is unread then",
    # Parts of sentences.
    "others": "{count} of other users",
    "nobody": "none of them is yours",
    "elsewhere": "a worker elsewhere",
    "worker_places": "{worker} ({running} of {places} places)",
    "and": ", ",
}
# Variables that are moments.
MOMENTS = {"run_at", "lease_ends", "read_at", "seen_at", "closed_at", "opened_at"}


@attrs.frozen
class Told:
    """A code with its variables, at a time [s since the epoch]; None: it is so now."""

    code: str
    variables: Mapping[str, Any] = attrs.field(factory=dict)
    at: float | None = None

    @property
    def text(self) -> str:
        """The sentence."""
        return WORDS[self.code].format(**{k: _shown(v) for k, v in self._facts(text=True).items()})

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is on the wire."""
        return {"code": self.code, "text": self.text}

    def with_facts(self, now: float) -> dict[str, Any]:
        """Return it with its time and its variables, as it is in a chain."""
        facts = self._facts(text=False)
        at = iso_of(now if self.at is None else self.at)
        return {**facts, "at": at, "code": self.code, "text": self.text}

    def _facts(self, *, text: bool) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name, value in self.variables.items():
            if name in MOMENTS:
                facts[name] = iso_of(value)
            elif isinstance(value, Behind | Places):
                facts |= {name: value.text} if text else value.facts()
            elif isinstance(value, Told):
                facts[name] = value.text
            else:
                facts[name] = value
        return facts


@attrs.frozen
class Behind:
    """Tasks that hold another back: those that its reader may know, and how many others."""

    tasks: Sequence[str]
    others: int

    @property
    def text(self) -> str:
        """Both in words."""
        more = [WORDS["others"].format(count=self.others)] if self.others else []
        return WORDS["and"].join([*self.tasks, *more]) or WORDS["nobody"]

    def facts(self) -> dict[str, Any]:
        """Return both as they are on the wire."""
        return {"tasks": list(self.tasks), "others": self.others}


@attrs.frozen
class Places:
    """Workers, each with how many tasks it runs and may run."""

    workers: Sequence[tuple[str, int, int]]

    @property
    def text(self) -> str:
        """Them in words."""
        form = WORDS["worker_places"]
        return WORDS["and"].join(
            form.format(worker=worker, running=running, places=places)
            for worker, running, places in self.workers
        )

    def facts(self) -> dict[str, Any]:
        """Return them as they are on the wire."""
        names = ("worker", "running", "places")
        return {"workers": [dict(zip(names, one, strict=True)) for one in self.workers]}


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return WORDS["and"].join(map(str, value)) if isinstance(value, list | tuple) else value
