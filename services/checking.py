"""Check a module of kinds before any task runs."""

from collections.abc import Callable, Iterator
from typing import Any

from services.kinds import (
    MOST_BYTES,
    KindError,
    NotDescribed,
    ParamsFault,
    describe,
    has_label_everywhere,
    made_anew,
    reader_of,
)
from services.schedules import schedules_of
from settings import Settings
from tornado_rt.work import Kind, Plan
from tornado_rt.work.params.loading import load_modules, text_of_error

WARNING = "warning: "
# Ends a warning: a server that has only the schema of the kind shows its title.
TITLE = (
    "takes the kind's own code: a server that knows this kind by its schema alone shows the title "
    "instead"
)
ANEW = (
    "is made anew at each reading: a server that knows this kind by its schema alone does not "
    "store it, and each attempt makes another"
)
# The sums that authors give weights, and how far off a sum is taken for a slip.
WHOLES = (1.0, 100.0)
NEAR = 0.2
ROUNDING = 0.001


def check_kinds(*names: str, settings: Settings | None = None) -> tuple[dict[str, int], list[str]]:
    """Return how many kinds the modules without a fault have, and what is wrong in all of them.

    They are loaded together, as a start does with these settings. A mere suspicion begins with
    "warning: ".
    """
    params_bytes = MOST_BYTES if settings is None else settings.tasks.task_params_bytes
    sound: dict[str, int] = {}
    told: list[str] = []
    for name, module in load_modules(names, settings).items():
        found = module.faults or [
            one for kind in module.kinds for one in _check(kind, params_bytes)
        ]
        if all(one.startswith(WARNING) for one in found):
            sound[name] = len(module.kinds)
        told += found
    return sound, list(dict.fromkeys(told))


def _check(kind: Kind, params_bytes: int) -> Iterator[str]:
    for fault in dict.fromkeys(_faults_of(kind)):
        yield f"kind {kind.name!r}: {fault}"
    try:
        schedules_of({kind.name: kind}, params_bytes)
    except KindError as error:
        yield from error.faults
    for warning in dict.fromkeys(_warnings_of(kind)):
        yield f"{WARNING}kind {kind.name!r}: {warning}"


def _faults_of(kind: Kind) -> Iterator[str]:
    try:
        describe(kind.params_class)
    except NotDescribed as error:
        yield str(error)
    refused = reader_of(kind.params_class).default_faults()
    for fault in refused:
        yield f"the class refuses its own default: {fault}"
    for params, kept in _examples_of(kind):
        yield from _faults_of_functions(kind, params, kept)
        if not refused:
            yield from _faults_of_reading(kind, params, kept)


def _examples_of(kind: Kind) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield parameters that the module itself has: all defaults, and those of its schedules.

    Each as an object and as JSON.
    """
    for params in ({}, *(dict(one.params) for one in kind.schedules)):
        try:
            yield reader_of(kind.params_class).read(params)
        except ParamsFault:
            # Their faults are told elsewhere; a class may have no defaults.
            continue


def _faults_of_reading(kind: Kind, params: Any, kept: dict[str, Any]) -> Iterator[str]:
    try:
        reader_of(kind.params_class).read_stored(kept, params)
    except ParamsFault as fault:
        yield from fault.faults


def _faults_of_functions(kind: Kind, params: Any, kept: dict[str, Any]) -> Iterator[str]:
    functions: dict[str, Callable[[Any], Any]] = {
        "steps": kind.plan_of,
        "label": lambda params: kind.label_of(params, kept),
        "expected_seconds": kind.expected_of,
    }
    for name, function in functions.items():
        try:
            function(params)
        except Exception as error:
            yield f"{name} fails for {params!r:.200}: {text_of_error(error)}"


def _warnings_of(kind: Kind) -> Iterator[str]:
    if not has_label_everywhere(kind):
        yield f"{'the format of the label' if isinstance(kind.label, str) else 'the label'} {TITLE}"
    for name in made_anew(kind.params_class):
        yield f"the default of {name} {ANEW}"
    examples = [params for params, _ in _examples_of(kind)]
    for params in examples if callable(kind.steps) else [None]:
        plan = _plan_of(kind, params)
        if plan is not None:
            yield from _warnings_of_weights(sum(step.weight for step in plan.steps))


def _plan_of(kind: Kind, params: Any) -> Plan | None:
    try:
        return kind.plan_of(params)
    except Exception:
        return None


def _warnings_of_weights(whole: float) -> Iterator[str]:
    for meant in WHOLES:
        off = abs(whole / meant - 1)
        if ROUNDING < off < NEAR:
            yield f"the weights of the steps sum to {whole:g}, not {meant:g}; shares are of the sum"
