"""Imports kinds and the functions of handlers."""

import importlib
import os
from collections.abc import Callable
from typing import Any

import attrs

from settings import Settings
from tornado_rt.work import Kind
from tornado_rt.work.attempts.endings import text_of_error
from tornado_rt.work.handlers import fault_of
from tornado_rt.work.params.loading import load_kinds, make_importable


class HandlerError(Exception):
    """A handler cannot be loaded; the message says why."""


def import_function(path: str, settings: Settings) -> Callable[..., Any]:
    """Import `MODULE:FUNCTION` and call its module's `configure(settings)`, if it has one.

    The current folder is importable, as it is for kinds. Raise HandlerError, whatever the module
    raises.
    """
    module_name, _, name = path.partition(":")
    make_importable(os.getcwd())
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name)
    except BaseException as error:
        # A module may end with anything, also with SystemExit.
        reason = text_of_error(error)
        raise HandlerError(f"worker_handler: cannot load {path!r}: {reason}") from error
    if fault := fault_of(function):
        raise HandlerError(f"worker_handler: {path!r} is {fault}")
    _configure(module, module_name, settings)
    return function  # type: ignore[no-any-return]


@attrs.frozen
class KindLoader:
    """Imports a kind in its task's process; `module` is that of its handler."""

    module: str
    settings: Settings

    def __call__(self, name: str) -> Kind:
        """Import it from the modules that the settings name, or from that of its handler.

        Raise KindError; KeyError when neither has it.
        """
        found = load_kinds(self.settings.workers.kinds, self.settings)
        return found[name] if name in found else load_kinds([self.module], self.settings)[name]


def _configure(module: object, module_name: str, settings: Settings) -> None:
    if not hasattr(module, "configure"):
        return
    try:
        module.configure(settings)
    except BaseException as error:
        reason = text_of_error(error)
        raise HandlerError(
            f"worker_handler: configure() of {module_name!r} failed: {reason}"
        ) from error
