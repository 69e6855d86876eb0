"""What runs a claim: a handler, with what it is given and how its attempts end."""

import functools
from typing import Any, Protocol

import attrs
import cattrs
import orjson

from services.progress import RedisProgressStore, RedisProgressTracker, TaskParams
from services.queue import Claim, Outcome, QueueService
from services.worker.backoff import Backoff
from services.worker.endings import text_of_error
from services.worker.handlers import Handler


class BadParams(Exception):
    """The parameters of a task are none that its handler can be given; the text says why."""


@attrs.frozen
class Rules:
    """How attempts end: after `timeout_seconds` at the latest, 0 for no end.

    `result_bytes` bounds a result as JSON, 0 for any size. `backoff` is for a retry without a delay
    of its own.
    """

    timeout_seconds: float = 0.0
    result_bytes: int = 0
    backoff: Backoff = attrs.field(factory=Backoff)


class Prepared(Protocol):
    """A claim and the handler that will run it."""

    @property
    def rules(self) -> Rules:
        """How it ends."""
        ...

    async def run(self) -> Any:
        """Run the handler; return its result, or an Ending. Raise whatever it raises."""
        ...

    def close(self) -> None:
        """Keep nothing more: the attempt is over, whatever the handler still does."""
        ...

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state of the snapshot. Raise whatever the handler has made of it."""
        ...


class Target(Protocol):
    """What runs the claims of a kind."""

    def prepare(self, claim: Claim) -> Prepared:
        """Return what will run this claim. Raise BadParams."""
        ...


class HandlerTarget:
    """Runs a handler of (task, progress)."""

    def __init__(self, queue: QueueService, handler: Handler, rules: Rules) -> None:
        self._queue = queue
        self._handler = handler
        self._rules = rules

    def prepare(self, claim: Claim) -> "PreparedHandler":
        """Give the task the tracker of its plan. Raise BadParams."""
        task = claim.task
        params = _read_params(task.params)
        store = RedisProgressStore(self._queue, claim.token)
        tracker = RedisProgressTracker(
            task.task_id,
            params.analysts,
            params.research_depth,
            params.llm_provider,
            attempt=task.attempt,
            store=store,
        )
        return PreparedHandler(claim, self._handler, self._rules, tracker, store)


@attrs.frozen(eq=False)
class PreparedHandler:
    """A task with its progress."""

    claim: Claim
    handler: Handler
    rules: Rules
    tracker: RedisProgressTracker
    store: RedisProgressStore

    async def run(self) -> Any:
        """Run the handler."""
        return await self.handler(self.claim.task, self.tracker)

    def close(self) -> None:
        """Keep nothing more."""
        self.store.closed = True

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state of the tracker."""
        if outcome == Outcome.COMPLETED:
            self.tracker.complete()
        elif outcome == Outcome.FAILED:
            self.tracker.fail(error)
        return self.tracker.fragment()


def _read_params(params: dict[str, Any]) -> TaskParams:
    try:
        return _structure(orjson.dumps(params))
    except cattrs.BaseValidationError as error:
        faults = cattrs.transform_error(error, format_exception=_explain_fault)
        raise BadParams("; ".join(faults)) from error
    except Exception as error:
        raise BadParams(text_of_error(error)) from error


# Most tasks ask for what others asked for.
@functools.lru_cache(maxsize=1024)
def _structure(params: bytes) -> TaskParams:
    return cattrs.structure(orjson.loads(params), TaskParams)


def _explain_fault(error: BaseException, _: type | None) -> str:
    # attrs' validators put the whole field behind their sentence.
    return str(error.args[0] if error.args else error)
