"""Makes the targets of a worker: what it runs, by the names of the kinds."""

from collections.abc import Mapping

from services.analysis import AnalysisKind
from services.worker.legacy import LegacyTarget, ProcessHandler, handler_of
from services.worker.loading import HandlerError, KindLoader, import_function
from settings import QueueSettings, Settings
from tornado_rt.tracing import carrying
from tornado_rt.work import Kind
from tornado_rt.work.attempts.backoff import Backoff
from tornado_rt.work.attempts.kind_target import KindTarget
from tornado_rt.work.attempts.target import Rules, Target


def load_targets(kinds: Mapping[str, Kind], settings: Settings) -> dict[str, Target]:
    """Return what runs each kind; an analysis without a handler here is left out.

    Raise HandlerError.
    """
    targets: dict[str, Target] = {}
    for name, kind in kinds.items():
        if not isinstance(kind, AnalysisKind):
            targets[name] = _checked_target(kind, settings)
        elif kind.handler_path:
            targets[name] = legacy_target(kind.handler_path, settings)
    return targets


def backoff_of(settings: QueueSettings) -> Backoff:
    """Return the waits before the retries of a task whose kind names none."""
    return Backoff(
        settings.queue_retry_base_seconds,
        settings.queue_retry_max_seconds,
        settings.queue_retry_spread,
    )


def legacy_target(path: str, settings: Settings) -> LegacyTarget:
    """Import `MODULE:FUNCTION` of (task, progress). Raise HandlerError."""
    rules = Rules(
        timeout_seconds=settings.tasks.task_timeout_seconds,
        result_bytes=settings.tasks.task_result_bytes,
        backoff=backoff_of(settings.queue),
    )
    function = import_function(path, settings)
    if settings.workers.worker_processes:
        return LegacyTarget(ProcessHandler(path, settings, rules), rules)
    return LegacyTarget(handler_of(function, rules), rules)


def kind_target(kind: Kind, settings: Settings) -> KindTarget:
    """Return what runs a kind as the settings say. Raise ValueError for one without a handler."""
    load = None
    carry, carry_modules = carrying(settings)
    if settings.workers.worker_processes and kind.function is not None:
        load = KindLoader(kind.function.__module__, settings)
    return KindTarget(
        kind,
        timeout_seconds=settings.tasks.task_timeout_seconds,
        result_bytes=settings.tasks.task_result_bytes,
        retry_spread=settings.queue.queue_retry_spread,
        load=load,
        carry=carry,
        carry_modules=carry_modules,
    )


def _checked_target(kind: Kind, settings: Settings) -> KindTarget:
    try:
        return kind_target(kind, settings)
    except ValueError as error:
        raise HandlerError(str(error)) from None
