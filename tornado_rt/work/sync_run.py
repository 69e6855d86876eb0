"""The run of a handler that is a plain function."""

import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent import futures
from typing import Any

from tornado_rt.work.run import Run, Sink, as_note


class SyncRun(Run):
    """The run of a plain function: methods that wait block the thread.

    `wait` runs a coroutine of the sink to its end in the loop of the sink, and returns its result;
    it may be called in any thread but the loop's.
    """

    def __init__(
        self, sink: Sink | None, wait: Callable[[Coroutine[Any, Any, Any]], Any], **about: Any
    ) -> None:
        super().__init__(sink, **about)
        self._wait = wait

    def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do as Run's, and block until the result is kept."""
        self._check()
        results = self._once
        turn = results.turn(name, threading.Lock)
        self._refuse_inside_itself(name, turn)
        with turn, self._step_of(name), self._inside(name):
            if name in results.kept:
                return results.recall(name)
            self._sink.check()
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = self._wait(_settled(value))
            text = results.encode(name, value)
            self._wait(self._sink.keep(name, text))
            results.kept[name] = text
        return results.recall(name)

    # Their callers do not await, so that these cannot stand in for Run's.
    def notify(  # type: ignore[override]
        self, title: object, content: object = None, severity: str = "info"
    ) -> None:
        """Do as Run's, and block."""
        self._wait(self._sink.notify(*as_note(title, content, severity)))

    def stopped(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Block until the worker stops, `timeout` seconds at most; return whether it does.

        Raise CancelledError once nobody waits for the handler any more.
        """
        self._sink.check()
        stops = bool(futures.wait([self._told_to_stop()], timeout).done)
        self._sink.check()
        return stops


async def _settled(value: Awaitable[Any]) -> Any:
    return await value
