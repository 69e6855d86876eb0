"""The verbs of the server as requests, and its streams."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from tornado_rt_client.events import (
    Arrived,
    BatchEvent,
    BatchFinished,
    BatchProgress,
    Changed,
    Counts,
    Event,
    Finished,
    InboxEvent,
    Message,
    Progress,
    Resync,
    TaskEvent,
    TasksChanged,
    TasksListed,
)
from tornado_rt_client.following import Following
from tornado_rt_client.records import (
    BatchSnapshot,
    Estimate,
    Kind,
    Notification,
    Output,
    Page,
    Schedule,
    TaskRecord,
    UnreadCount,
    Why,
    anything,
    nothing,
    page_of,
    text_field,
)
from tornado_rt_client.request import Request

T = TypeVar("T")

Filter = Mapping[str, Any]
# Returns the request of the page that begins at a place, None for the first.
Pages = Callable[[str | None], Request[Page[T]]]


def submit(kind: str, params: Any, more: Mapping[str, Any], key: str | None) -> Request[str]:
    """Submit a task; return its id."""
    body = _task_body(kind, params, more)
    return Request("POST", "/api/tasks", text_field("task_id"), body=body, key=key or new_key())


def estimate(kind: str, params: Any, more: Mapping[str, Any], key: str | None) -> Request[Estimate]:
    """Say when a task would start and end, without submitting it."""
    return _dry_run("/api/tasks", _task_body(kind, params, more), key)


def read_task(task_id: str) -> Request[TaskRecord]:
    """Return what is known of a task."""
    return Request("GET", _path("/api/tasks", task_id), TaskRecord.read)


def task_output(task_id: str) -> Request[Output]:
    """Return what a task has told so far."""
    return Request("GET", _path("/api/tasks", task_id, "output"), Output.read)


def why_task(task_id: str) -> Request[Why]:
    """Return why a task is where it is."""
    return Request("GET", _path("/api/tasks", task_id, "why"), Why.read)


def list_tasks(filters: Filter) -> Pages[TaskRecord]:
    """Return one's tasks, the newest first."""
    return _pages("/api/tasks", TaskRecord.read, filters)


def cancel_task(task_id: str) -> Request[TaskRecord]:
    """Cancel a task, unless it has ended."""
    return Request("DELETE", _path("/api/tasks", task_id), TaskRecord.read)


def retry_task(task_id: str) -> Request[None]:
    """Run a task again that failed, died or was cancelled."""
    return Request("POST", _path("/api/tasks", task_id, "retry"), nothing)


def submit_batch(
    kind: str, items: Iterable[Any], more: Mapping[str, Any], key: str | None
) -> Request[str]:
    """Submit many tasks of one kind, all or none; return the id of the batch."""
    body, read = _batch_body(kind, items, more), text_field("batch_id")
    return Request("POST", "/api/batches", read, body=body, key=key or new_key())


def estimate_batch(
    kind: str, items: Iterable[Any], more: Mapping[str, Any], key: str | None
) -> Request[Estimate]:
    """Say when many tasks would start and end, without submitting them."""
    return _dry_run("/api/batches", _batch_body(kind, items, more), key)


def read_batch(batch_id: str) -> Request[BatchSnapshot]:
    """Return the state of a batch."""
    return Request("GET", _path("/api/batches", batch_id), BatchSnapshot.read)


def cancel_batch(batch_id: str) -> Request[BatchSnapshot]:
    """Cancel what has not ended of a batch."""
    return Request("DELETE", _path("/api/batches", batch_id), BatchSnapshot.read)


def batch_tasks(batch_id: str) -> Pages[TaskRecord]:
    """Return the tasks of a batch."""
    return _pages(_path("/api/batches", batch_id, "tasks"), TaskRecord.read, {})


def notify(user_id: str, fields: Mapping[str, Any], key: str | None) -> Request[Notification]:
    """Send a notification to a user."""
    body = {"user_id": user_id, **fields}
    path = "/api/notifications"
    return Request("POST", path, Notification.read, body=body, key=key or new_key())


def list_inbox(filters: Filter) -> Pages[Notification]:
    """Return one's notifications, the newest first."""
    return _pages("/api/notifications", Notification.read, filters)


def unread_count() -> Request[UnreadCount]:
    """Return how many notifications are unread and unseen."""
    return Request("GET", "/api/notifications/unread_count", UnreadCount.read)


def act(verb: str, ids: Sequence[str], more: Mapping[str, Any]) -> Request[UnreadCount]:
    """Apply a verb to notifications; return the counts after that.

    The server changes nothing twice by a verb that comes twice. Raise ValueError when nothing says
    which ones: an empty list of ids must not mean all.
    """
    if not ids and not ({"all", "filter"} & more.keys()):
        raise ValueError("name ids, or give a filter or all=True")
    body = {**({"ids": list(ids)} if ids else {}), **more}
    path = _path("/api/notifications", verb)
    return Request("POST", path, UnreadCount.read, body=body, is_harmless=True)


def answer(notification_id: str, action: str) -> Request[Notification]:
    """Answer an action of a notification."""
    path = _path("/api/notifications", notification_id, "actions", action)
    return Request("POST", path, Notification.read)


def publish(topic: str, data: Any) -> Request[str]:
    """Publish on a topic; return the id of the message."""
    body = {"topic": topic, "data": data}
    return Request("POST", "/api/publish", text_field("id"), body=body)


def list_kinds() -> Request[list[Kind]]:
    """Return the kinds of work that can be submitted."""
    read_page = page_of(Kind.read)
    return Request("GET", "/api/kinds", lambda data: read_page(data).items)


def list_schedules(filters: Filter) -> Pages[Schedule]:
    """Return one's schedules, by name."""
    return _pages("/api/schedules", Schedule.read, filters, "after")


def read_schedule(name: str) -> Request[Schedule]:
    """Return one schedule."""
    return Request("GET", _path("/api/schedules", name), Schedule.read)


def put_schedule(name: str, fields: Mapping[str, Any]) -> Request[Schedule]:
    """Make a schedule, or replace the one of this name."""
    return Request("PUT", _path("/api/schedules", name), Schedule.read, body=dict(fields))


def delete_schedule(name: str) -> Request[None]:
    """Drop a schedule; its tasks stay."""
    return Request("DELETE", _path("/api/schedules", name), nothing)


def run_schedule(name: str, key: str | None) -> Request[str]:
    """Make a task of a schedule now; return its id."""
    path = _path("/api/schedules", name, "run")
    return Request("POST", path, text_field("task_id"), key=key or new_key())


def ask(method: str, path: str, body: Any) -> Request[Any]:
    """Return a request of an endpoint that has no verb here."""
    return Request(method.upper(), path, anything, body=body)


def watch_task(task_id: str) -> Following[TaskEvent]:
    """Follow a task to its end."""
    return Following(_path("/api/tasks", task_id), (Progress, Finished), is_end_of_task)


def watch_batch(batch_id: str) -> Following[BatchEvent]:
    """Follow a batch to its end."""
    shows = (BatchProgress, BatchFinished)
    return Following(_path("/api/batches", batch_id), shows, is_end_of_batch)


def watch_inbox() -> Following[InboxEvent]:
    """Follow one's notifications."""
    return Following("/api/notifications/stream", (Arrived, Changed, Counts, Resync))


def subscribe(topics: Sequence[str]) -> Following[Event]:
    """Follow topics on one connection. Raise ValueError without any."""
    if not topics or not all(topics) or any("," in one for one in topics):
        raise ValueError("name at least one topic; a topic is not empty and has no comma")
    of_tasks = (Progress, Finished, BatchProgress, BatchFinished, TasksListed, TasksChanged)
    shows = (*of_tasks, Arrived, Changed, Counts, Message, Resync)
    params = {"topics": ",".join(topics)}
    return Following("/api/stream", shows, params=params, has_topics=True)


def is_end_of_task(event: Event) -> bool:
    """Say whether a task has ended."""
    return isinstance(event, Finished)


def is_end_of_batch(event: Event) -> bool:
    """Say whether a batch has ended."""
    return isinstance(event, BatchFinished)


def new_key() -> str:
    """Return an `Idempotency-Key` that nobody else has."""
    return uuid.uuid4().hex


def _task_body(kind: str, params: Any, more: Mapping[str, Any]) -> Any:
    return {"kind": kind, "params": {} if params is None else params, **more}


def _batch_body(kind: str, items: Iterable[Any], more: Mapping[str, Any]) -> Any:
    return {"kind": kind, "items": [{"params": one} for one in items], **more}


def _dry_run(path: str, body: Any, key: str | None) -> Request[Estimate]:
    return Request(
        "POST",
        path,
        Estimate.read,
        params={"dry_run": "true"},
        body=body,
        key=key,
        is_harmless=True,
    )


def _path(folder: str, *names: str) -> str:
    """Return an address below a folder. Raise ValueError for a name that is none."""
    if any(set(one) <= {"."} for one in names):
        raise ValueError(f"not a name: {names}")
    return "/".join([folder, *(quote(one, safe=":") for one in names)])


def _pages(
    path: str, read: Callable[[Any], T], filters: Filter, place_name: str = "before"
) -> Pages[T]:
    given = {name: _argument(value) for name, value in filters.items() if value is not None}

    def page(place: str | None) -> Request[Page[T]]:
        params = given if place is None else {**given, place_name: place}
        return Request("GET", path, page_of(read), params=params)

    return page


def _argument(value: Any) -> Any:
    """Return a value as the query has it; a list is repeated."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return value
