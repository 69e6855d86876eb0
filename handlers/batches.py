"""`/api/batches`: submit, watch and cancel batches."""

from typing import Any

from handlers.feeds import ProgressFeed
from handlers.tasks import (
    MAX_PAGE_SIZE,
    PAGE_SIZE,
    TaskApiHandler,
    by_of,
    cursor_of,
    is_dry_run,
    once_of,
    owner_of,
    task_links,
)
from services.queue import Batch
from tornado_rt.json_body import parse
from tornado_rt.streams import EventStreamHandler


class BatchesHandler(TaskApiHandler):
    """`POST`: submit many tasks at once, or with `dry_run` say when they would start and end."""

    async def post(self) -> None:
        user_id, once, estimates = self.identity.user_id, once_of(self), is_dry_run(self)
        body = parse(self.raw_body())
        if estimates:
            self.show(await self.tasks.estimate_batch(user_id, body, once))
        else:
            self._accept(await self.tasks.submit_batch(user_id, body, once))

    def _accept(self, batch: Batch) -> None:
        accepted = self._accepted(batch)
        self.set_header("Location", accepted["links"]["self"])
        self.answer(accepted, 202)

    def _accepted(self, batch: Batch) -> dict[str, Any]:
        address = self.at(f"/api/batches/{batch.batch_id}")
        return {
            "batch_id": batch.batch_id,
            "task_ids": batch.task_ids,
            "submitted": len(batch.task_ids),
            "links": {
                "self": address,
                "events": address,
                "tasks": [task_links(self, task_id)["self"] for task_id in batch.task_ids],
            },
        }


class BatchHandler(EventStreamHandler, TaskApiHandler):
    """`GET`: the batch's event stream, or its snapshot as JSON. `DELETE`: cancel it."""

    async def get(self, batch_id: str) -> None:
        batch = await self.tasks.get_batch(batch_id, owner_of(self))
        if self.wants_json():
            self.answer(batch.snapshot)
        else:
            by, limits = by_of(self), self.hub.limits
            feed = ProgressFeed(self.queue, self.plans, "batch", batch_id, limits, by)
            await self.stream(feed)

    async def delete(self, batch_id: str) -> None:
        batch = await self.tasks.cancel_batch(batch_id, owner_of(self), by_of(self))
        self.answer(batch.snapshot)


class BatchTasksHandler(TaskApiHandler):
    """`GET`: the tasks of a batch, with status and error."""

    async def get(self, batch_id: str) -> None:
        limit = self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE)
        owner, before = owner_of(self), cursor_of(self)
        self.show(await self.tasks.find_in_batch(batch_id, owner, before, limit))
