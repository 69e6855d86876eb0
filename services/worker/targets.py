"""Makes the targets of a worker: what it runs, by the names of the kinds."""

from collections.abc import Mapping

from services.analysis import AnalysisKind
from services.worker.backoff import Backoff
from services.worker.kinds import KindTarget
from services.worker.legacy import LegacyTarget, ProcessHandler, handler_of
from services.worker.loading import HandlerError, import_function
from services.worker.target import Rules, Target
from settings import Settings
from tornado_rt.work import Kind


def load_targets(kinds: Mapping[str, Kind], settings: Settings) -> dict[str, Target]:
    """Return what runs each kind; an analysis without a handler here is left out.

    Raise HandlerError.
    """
    targets: dict[str, Target] = {}
    for name, kind in kinds.items():
        if not isinstance(kind, AnalysisKind):
            targets[name] = _kind_target(kind, settings)
        elif kind.handler_path:
            targets[name] = legacy_target(kind.handler_path, settings)
    return targets


def legacy_target(path: str, settings: Settings) -> LegacyTarget:
    """Import `MODULE:FUNCTION` of (task, progress). Raise HandlerError."""
    rules = Rules(
        timeout_seconds=settings.task_timeout_seconds,
        result_bytes=settings.task_result_bytes,
        backoff=Backoff(settings.queue_retry_base_seconds, settings.queue_retry_max_seconds),
    )
    function = import_function(path, settings)
    if settings.worker_processes:
        return LegacyTarget(ProcessHandler(path, settings, rules), rules)
    return LegacyTarget(handler_of(function, rules), rules)


def _kind_target(kind: Kind, settings: Settings) -> KindTarget:
    try:
        return KindTarget(kind, settings)
    except ValueError as error:
        raise HandlerError(str(error)) from None
