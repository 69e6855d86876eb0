"""`/api/batches`: submit, watch and cancel batches."""

from typing import Any

import attrs

from handlers.feeds import ProgressFeed
from handlers.tasks import SYMBOL_LENGTH, once_of, task_links
from services.progress import TaskParams, estimate_seconds, plan_fragment
from services.queue import Batch, BatchNotFound, QueueService
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.streams import EventStreamHandler
from tornado_rt.web import ApiHandler


def _check_symbols(_: Any, field: Any, value: list[str]) -> None:
    if not value:
        raise OutOfBounds(f"{field.name} must name one or more")
    for number, symbol in enumerate(value):
        check_name(f"{field.name}[{number}]", symbol, SYMBOL_LENGTH)


@attrs.frozen
class BatchRequest:
    """The body of `POST /api/batches`; `notify_each`: news of each task, not of the batch alone."""

    symbols: list[str] = attrs.field(validator=_check_symbols)
    params: TaskParams = attrs.field(factory=TaskParams)
    notify_each: bool = False


class BatchesHandler(ApiHandler):
    """`POST`: submit one task for each symbol."""

    def initialize(self, queue: QueueService, max_batch: int) -> None:
        self.queue = queue
        self.max_batch = max_batch

    async def post(self) -> None:
        user_id = self.identity.user_id
        request = self.body(BatchRequest, symbols=self.max_batch)
        params = attrs.asdict(request.params)
        batch = await self.queue.create_batch(
            user_id,
            request.symbols,
            params,
            plan=plan_fragment(request.params),
            expected_seconds=estimate_seconds(**params),
            notify_each=request.notify_each,
            once=once_of(self),
        )
        self.set_header("Location", f"/api/batches/{batch.batch_id}")
        self.answer(_accepted(batch), 202)


class BatchHandler(EventStreamHandler, ApiHandler):
    """`GET`: the batch's event stream, or its snapshot as JSON. `DELETE`: cancel it."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self, batch_id: str) -> None:
        batch = await self.queue.get_batch(batch_id)
        if batch is None or batch.user_id != self.identity.user_id:
            raise BatchNotFound(batch_id)
        if self.wants_json():
            self.answer(batch.snapshot)
        else:
            await self.stream(ProgressFeed(self.queue, "batch", batch_id, self.hub.limits))

    async def delete(self, batch_id: str) -> None:
        batch = await self.queue.cancel_batch(batch_id, self.identity.user_id)
        self.answer(batch.snapshot)


def _accepted(batch: Batch) -> dict[str, object]:
    address = f"/api/batches/{batch.batch_id}"
    return {
        "batch_id": batch.batch_id,
        "task_ids": batch.task_ids,
        "submitted": len(batch.task_ids),
        "links": {
            "self": address,
            "events": address,
            "tasks": [task_links(task_id)["self"] for task_id in batch.task_ids],
        },
    }
