"""Where progress is kept: in the queue's Redis, or in files without one."""

import asyncio
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog
from redis.exceptions import RedisError

from services.estimates import Estimates, FileHistory
from services.progress.plans import PlanBook
from services.queue import QueueService
from settings import load_settings
from tornado_rt.work import LeaseLost
from tornado_rt.work.attempts.lessons import Outline, Times
from tornado_rt.work.attempts.queue import AttemptQueue
from tornado_rt.work.forecast import Forecast

log = structlog.get_logger(__name__)

TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class TrackedTask(Protocol):
    """The part of a tracker that a store needs."""

    task_id: str

    @property
    def status(self) -> str: ...

    @property
    def progress(self) -> float: ...

    def to_dict(self) -> dict[str, Any]: ...

    def fragment(self) -> bytes: ...


class ProgressStore(Protocol):
    """Where a tracker keeps what it knows."""

    async def save(self, tracker: TrackedTask) -> None:
        """Keep the state. Raise LeaseLost when the task is no longer this attempt's."""
        ...

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one; None when that is nothing."""
        ...

    async def learn(self, outline: Outline, task_id: str, times: Times) -> None:
        """Keep what a completed task has taught."""
        ...


class RedisProgressStore:
    """Keeps and publishes through the queue, for the owner of the claim only.

    Once `closed`, nothing is kept: the attempt has ended, whatever its handler still does.
    """

    def __init__(self, queue: AttemptQueue, token: str) -> None:
        self.closed = False
        self._queue = queue
        self._token = token

    async def save(self, tracker: TrackedTask) -> None:
        """Report one state; while Redis is away none, for the next one holds all of it.

        Raise LeaseLost for a stale token, and once closed.
        """
        if self.closed:
            raise LeaseLost(tracker.task_id)
        if tracker.status != "processing":
            # The end of an attempt is the ack, which carries the last state.
            return
        try:
            owned = await self._queue.report_progress(
                tracker.task_id, self._token, tracker.fragment(), tracker.progress
            )
        except (RedisError, OSError) as error:
            log.warning("progress_unsaved", task_id=tracker.task_id, error=error)
            return
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            # Another's cancellation has met the call that ours shared.
            log.warning("progress_unsaved", task_id=tracker.task_id, error=error)
            return
        if not owned:
            raise LeaseLost(tracker.task_id)

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return None: the attempt's link knows more."""
        return None

    async def learn(self, outline: Outline, task_id: str, times: Times) -> None:
        """Do nothing: the ack carries it."""


class FileProgressStore:
    """Keeps the newest snapshot of each task in a file of its own, and what tasks teach in others.

    `folder`: None is `progress` under the data folder of the settings.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given = folder

    async def save(self, tracker: TrackedTask) -> None:
        """Write one snapshot; a reader sees the old or the new one whole."""
        content = orjson.dumps(tracker.to_dict())
        await asyncio.to_thread(self._write, self._path(tracker.task_id), content)

    async def load(self, task_id: str) -> dict[str, Any] | None:
        """Return the newest snapshot of a task; None when there is none."""
        try:
            content = await asyncio.to_thread(self._path(task_id).read_bytes)
        except FileNotFoundError:
            return None
        snapshot: dict[str, Any] = orjson.loads(content)
        return snapshot

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one."""
        return await self._estimates.forecast(outline)

    async def learn(self, outline: Outline, task_id: str, times: Times) -> None:
        """Keep what a completed task has taught."""
        await self._history.add(self._estimates.lesson(outline, task_id, times))

    @cached_property
    def _history(self) -> FileHistory:
        return FileHistory(self._folder / "history")

    @cached_property
    def _estimates(self) -> Estimates:
        return Estimates(self._history)

    @cached_property
    def _folder(self) -> Path:
        return self._given or load_settings().server.data_dir / "progress"

    def _path(self, task_id: str) -> Path:
        if not TASK_ID.fullmatch(task_id):
            raise ValueError(f"not a task id: {task_id!r}")
        return self._folder / f"{task_id}.json"

    def _write(self, path: Path, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def get_progress(
    task_id: str, queue: QueueService | None = None, plans: PlanBook | None = None
) -> dict[str, Any] | None:
    """Look a task's snapshot up, in the queue's Redis when there is one, else in the files.

    `plans`: those that this process knows; without them the task's plan is read.
    """
    if queue is None:
        return await FileProgressStore().load(task_id)
    task = await queue.get_task(task_id)
    if task is None:
        return None
    shown = await (plans or PlanBook(queue.read_plans)).shown(task.snapshot)
    fields: dict[str, Any] = orjson.loads(shown)
    return fields
