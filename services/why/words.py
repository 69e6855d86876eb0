"""The sentences of all codes; a catalogue has them in other languages.

A sentence names its variables in braces. Those that are lists become text too. Times are in
seconds since the epoch until they are shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from services.queue import iso_of
from tornado_rt.work.texts import Stored, Text, msgid

WORDS: dict[str, str] = {
    # Why a task waits.
    "all_paused": msgid("all kinds are paused: nothing starts until an admin resumes them"),
    "paused": msgid("{kind} is paused: no task of it starts until an admin resumes it"),
    "scheduled": msgid("it is set aside until {run_at}"),
    "backoff": msgid(
        "attempt {attempt} of {max_attempts} ended with: {error}; "
        "the next one may start at {run_at}"
    ),
    "no_worker": msgid("no worker that lives runs {kind}"),
    "user_limit": msgid("{running} of at most {limit} tasks of {user} run: {behind}"),
    "kind_user_limit": msgid(
        "{running} of at most {limit} tasks of {kind} of {user} run: {behind}"
    ),
    "key_limit": msgid(
        "{running} of at most {limit} tasks of {kind} with the key {key} run: {behind}"
    ),
    "kind_limit": msgid("{running} of at most {limit} tasks of {kind} run: {behind}"),
    "global_limit": msgid("{running} of at most {limit} tasks run: {behind}"),
    "rate": msgid("{kind} may start {rate}: the next one in {seconds} s"),
    "key_rate": msgid("{kind} with the key {key} may start {rate}: the next one in {seconds} s"),
    "line": msgid("{before} tasks of {kind} are before it"),
    "turns": msgid("users take turns, and {users} of them come before {user}"),
    "own_line": msgid("{before} earlier tasks of {user} are before it: {behind}"),
    "workers_drain": msgid(
        "all workers that run {kind} are stopping, and take nothing more: {workers}"
    ),
    "workers_full": msgid("all workers that run {kind} are full: {workers}; they run {behind}"),
    "starting": msgid("a worker of {kind} has a free place: it starts in a moment"),
    # Where a task is that runs.
    "running": msgid("{worker} runs attempt {attempt} of {max_attempts}: {progress} % done"),
    "running_step": msgid(
        "{worker} runs attempt {attempt} of {max_attempts}: {progress} % done, at the step {step}"
    ),
    "asked": msgid("it waits for {user} to answer: {questions}"),
    "worker_silent": msgid(
        "{worker} has it, and gives no sign of life for {seconds} s: "
        "its lease ends at {lease_ends}, then the task runs again"
    ),
    "worker_gone": msgid(
        "{worker} had it and is gone: its lease ends at {lease_ends}, then the task runs again"
    ),
    "lease_over": msgid(
        "the lease of {worker} ran out at {lease_ends}: the task runs again "
        "as soon as a worker looks"
    ),
    # The ends of a task.
    "completed": msgid("{worker} completed it"),
    "late": msgid(
        "{worker} completed it, and could tell Redis only {seconds} s later: it was away or slow"
    ),
    "failed": msgid("its handler ended it as failed: {error}"),
    "attempts_used": msgid(
        "attempt {attempt} of {max_attempts} failed, and there is no other: {error}"
    ),
    "retries_used": msgid(
        "attempt {attempt} of {max_attempts} asked for another, and there is none: {error}"
    ),
    "lost_too_often": msgid(
        "its worker was lost in attempt {attempt} of {max_attempts}, and there is no other"
    ),
    "timeout": msgid("it was stopped: attempt {attempt} of {max_attempts} {error}"),
    "budget": msgid("its time is used up: it {error}"),
    "cancelled": msgid("it was cancelled"),
    "cancelled_user": msgid("{who} cancelled it"),
    "cancelled_admin": msgid("the admin {who} cancelled it"),
    "cancelled_operator": msgid("the operator of the server cancelled it"),
    "cancelled_user_batch": msgid("{who} cancelled its batch"),
    "cancelled_admin_batch": msgid("the admin {who} cancelled its batch"),
    "cancelled_operator_batch": msgid("the operator of the server cancelled its batch"),
    "cancelled_replaced": msgid(
        "the task {who} was submitted under its unique key and took its place"
    ),
    "cancelled_schedule": msgid("the schedule {who} made another one in its place"),
    "cancelled_purge": msgid("an operator cancelled all that waited"),
    "forgotten": msgid(
        "it ended as {status}, and is kept no more: its notification is all that is left of it"
    ),
    # Why its user has heard of its end, or not.
    "outbox_store_away": msgid(
        "its end is not told yet: it waits in the outbox, for MongoDB does not answer"
    ),
    "outbox_waits": msgid("its end is not told yet: it waits in the outbox"),
    "outbox_refused": msgid("its end could not become a notification, and was set aside"),
    "store_away": msgid("MongoDB does not answer: whether its user was told cannot be read"),
    "told_by_batch": msgid("its batch tells of its end"),
    "not_asked": msgid("its submitter wanted no notification of its end"),
    "notification_gone": msgid("its notification is kept no more"),
    "read": msgid("{user} read its notification at {read_at}"),
    "seen": msgid("{user} saw its notification at {seen_at}, and has not read it"),
    "muted_type": msgid(
        "its notification was kept and not pushed: {user} has muted the type {type}"
    ),
    "muted_severity": msgid(
        "its notification was kept and not pushed: {user} wants none of the severity {severity}"
    ),
    "quiet_hours": msgid(
        "its notification was kept and not pushed: it came in the quiet hours of {user}"
    ),
    "delivered": msgid(
        "its end was sent to {devices} open connections of {user}, and is not read yet"
    ),
    "slow_reader": msgid(
        "the last connection of {user} was closed at {closed_at} with {close_code}: "
        "it read too slowly, and what waited for it was dropped"
    ),
    "token_expired": msgid(
        "the last connection of {user} was closed at {closed_at} with {close_code}: "
        "its token had expired"
    ),
    "pong_timeout": msgid(
        "the last connection of {user} was closed at {closed_at} with {close_code}: "
        "it answered no ping"
    ),
    "server_stopped": msgid(
        "the last connection of {user} was closed at {closed_at} with {close_code}: "
        "the server stopped"
    ),
    "server_killed": msgid("the server of the last connection of {user} was killed"),
    "device_left": msgid(
        "the last connection of {user} was closed at {closed_at} with {close_code}: the device left"
    ),
    "nobody_connected": msgid("no device of {user} was connected when it ended"),
    "came_back": msgid(
        "no device of {user} was connected when it ended; "
        "one came at {opened_at} and has it in its inbox"
    ),
    "post_refused": msgid("the post to {host} was given up: {error}"),
    "post_failing": msgid(
        "the post to {host} failed {times} times: {error}; the next one at {run_at}"
    ),
    "post_waits": msgid("the post to {host} waits"),
    "post_disabled": msgid("the webhook to {host} is disabled: {error}"),
    # The events, in order.
    "submitted": msgid("{user} submitted it as a task of {kind}"),
    "submitted_batch": msgid("{user} submitted it with the batch {batch_id}"),
    "submitted_schedule": msgid("the schedule {schedule} made it for {user}"),
    "submitted_task": msgid("submitted by task {parent_id}, for {user}"),
    "submitted_server": msgid("the server made it for {user}"),
    "set_aside": msgid("it was set aside until {run_at}"),
    "replaces": msgid("it took the place of the task {who}, which had its unique key"),
    "asked_again": msgid("it was submitted again under its unique key, {times} times in all"),
    "claimed": msgid("{worker} took it: attempt {attempt}"),
    "step": msgid("the step {step} began"),
    "attempt_error": msgid("attempt {attempt} failed: {error}"),
    "attempt_retry": msgid("attempt {attempt} asked for another: {error}"),
    "attempt_lost": msgid("the lease of {worker} ran out in attempt {attempt}: the task came back"),
    "attempt_ended": msgid("attempt {attempt} ended as {outcome}"),
    "connection_lost": msgid("the connection of {worker} was lost"),
    "handed_back": msgid("{worker} stopped and handed it back; the attempt does not count"),
    "told_late": msgid("the end of the attempt was told {seconds} s late: Redis was away or slow"),
    "rerun_user": msgid("{who} had it run again"),
    "rerun_admin": msgid("the admin {who} had it run again"),
    "rerun_operator": msgid("the operator of the server had it run again"),
    "waits": msgid("it waits: {cause}"),
    "runs": msgid("it runs: {cause}"),
    "ended": msgid("it ended as {status}: {cause}"),
    "notified": msgid("its notification was stored"),
    "sent": msgid("it was sent to an open connection ({transport})"),
    "device_opened": msgid("a device of {user} connected ({transport})"),
    "device_closed": msgid("a connection of {user} was closed with {close_code}: {reason}"),
    "deleted": msgid("its notification was removed"),
    "archived": msgid("{user} archived its notification"),
    "post_delivered": msgid("the post to {host} arrived"),
    "post_attempt": msgid("the post to {host} failed: {error}"),
    "push_sent": msgid("{browsers} browsers of {user} were sent a push of its notification"),
    "push_gone": msgid("{browsers} browsers of {user} take no push any more: {error}"),
    "push_not_taken": msgid("{browsers} browsers of {user} were not sent a push: {error}"),
    "push_not_needed": msgid(
        "no push was needed: {user} had read its notification, or has no browser"
    ),
    "push_attempt": msgid("the push to the browsers of {user} failed: {error}"),
    "push_refused": msgid("the push to the browsers of {user} was given up: {error}"),
    "push_waits": msgid("the push to the browsers of {user} is due at {run_at}"),
    "mail_sent": msgid("{user} was sent a mail about its notification"),
    "mail_not_needed": msgid("no mail was needed: {user} had read its notification, or wants none"),
    "mail_attempt": msgid("the mail to {user} failed: {error}"),
    "mail_refused": msgid("the mail to {user} was given up: {error}"),
    "mail_waits": msgid(
        "the mail to {user} is due at {run_at}, if its notification is unread then"
    ),
    # Parts of sentences.
    "others": msgid("{count} of other users"),
    "nobody": msgid("none of them is yours"),
    "elsewhere": msgid("a worker elsewhere"),
    "worker_places": msgid("{worker} ({running} of {places} places)"),
    "and": msgid(", "),
}
# The states of tasks and outcomes of attempts, within a sentence.
STATES = {
    "queued": msgid("queued"),
    "delayed": msgid("delayed"),
    "processing": msgid("processing"),
    "completed": msgid("completed"),
    "failed": msgid("failed"),
    "cancelled": msgid("cancelled"),
    "dead": msgid("dead"),
    "error": msgid("error"),
    "retry": msgid("retry"),
    "lost": msgid("lost"),
}
# Variables that are states or outcomes, and those that are stored in English.
STATE_NAMES = {"status", "outcome"}
STORED = {"error", "step"}
# Variables that are moments.
MOMENTS = {"run_at", "lease_ends", "read_at", "seen_at", "closed_at", "opened_at"}


@attrs.frozen
class ToldCause:
    """A code with its variables, at a time [s since the epoch]; None: it is so now."""

    code: str
    variables: Mapping[str, Any] = attrs.field(factory=dict)
    at: float | None = None

    @property
    def text(self) -> Text:
        """The sentence."""
        facts = self._facts(text=True)
        return Text(WORDS[self.code], {name: _shown(name, one) for name, one in facts.items()})

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
            elif isinstance(value, ToldCause):
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
    def text(self) -> Text:
        """Both in words."""
        more = [Text(WORDS["others"], {"count": self.others})] if self.others else []
        told = [*self.tasks, *more]
        return Text("{tasks}", {"tasks": told}) if told else Text(WORDS["nobody"])

    def facts(self) -> dict[str, Any]:
        """Return both as they are on the wire."""
        return {"tasks": list(self.tasks), "others": self.others}


@attrs.frozen
class Places:
    """Workers, each with how many tasks it runs and may run."""

    workers: Sequence[tuple[str, int, int]]

    @property
    def text(self) -> Text:
        """Them in words."""
        form, names = WORDS["worker_places"], ("worker", "running", "places")
        told = [Text(form, dict(zip(names, one, strict=True))) for one in self.workers]
        return Text("{workers}", {"workers": told})

    def facts(self) -> dict[str, Any]:
        """Return them as they are on the wire."""
        names = ("worker", "running", "places")
        return {"workers": [dict(zip(names, one, strict=True)) for one in self.workers]}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    if name in STORED and type(value) is str:
        return Stored(value)
    return Text(STATES[value]) if name in STATE_NAMES and value in STATES else value
