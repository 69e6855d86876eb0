"""Check a module of kinds before any task runs."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from services.kinds import (
    MOST_BYTES,
    KindError,
    NotDescribed,
    ParamsFault,
    describe,
    reader_of,
)
from services.kinds.loading import load_modules, text_of_error
from services.schedules import schedules_of
from settings import Settings
from tornado_rt.work import Kind, Plan

WARNING = "warning: "
# The sums that authors give weights, and how far off a sum is taken for a slip.
WHOLES = (1.0, 100.0)
NEAR = 0.2
ROUNDING = 0.001


def check_kinds(*names: str, settings: Settings | None = None) -> tuple[dict[str, int], list[str]]:
    """Return how many kinds the modules without a fault have, and what is wrong in all of them.

    They are loaded together, as a start does with these settings. What only looks wrong begins with
    "warning: ".
    """
    params_bytes = MOST_BYTES if settings is None else settings.task_params_bytes
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
    if _yields(kind.function):
        yield "the handler is a generator: it returns its result, it does not yield"
    try:
        describe(kind.params_class)
    except NotDescribed as error:
        yield str(error)
    for fault in reader_of(kind.params_class).default_faults():
        yield f"the class refuses its own default: {fault}"
    for params in _examples_of(kind):
        yield from _faults_of_functions(kind, params)


def _yields(function: Any) -> bool:
    """Say whether a handler is a generator, also when it is an object that can be called."""
    called = function if inspect.isroutine(function) else type(function).__call__
    return any(
        inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, called)
    )


def _examples_of(kind: Kind) -> Iterator[Any]:
    """Yield parameters that the module itself has: all defaults, and those of its schedules."""
    for params in ({}, *(dict(one.params) for one in kind.schedules)):
        try:
            yield reader_of(kind.params_class).read(params)[0]
        except ParamsFault:
            # Their faults are told elsewhere; a class may have no defaults.
            continue


def _faults_of_functions(kind: Kind, params: Any) -> Iterator[str]:
    functions: dict[str, Callable[[Any], Any]] = {
        "steps": kind.plan_of,
        "label": kind.label_of,
        "expected_seconds": kind.expected_of,
    }
    for name, function in functions.items():
        try:
            function(params)
        except Exception as error:
            yield f"{name} fails for {params!r:.200}: {text_of_error(error)}"


def _warnings_of(kind: Kind) -> Iterator[str]:
    for params in _examples_of(kind) if callable(kind.steps) else [None]:
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
