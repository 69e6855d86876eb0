"""The run of a handler that is a plain function."""

import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any

from tornado_rt.work.awaiting import as_timeout, settled
from tornado_rt.work.notes import as_note, as_question
from tornado_rt.work.run import Run
from tornado_rt.work.sink import Sink
from tornado_rt.work.submitting import submission
from tornado_rt.work.values import require

if TYPE_CHECKING:
    from tornado_rt.work.kind import Kind


class SyncRun(Run):
    """The run of a plain function: methods that wait block the thread, until `let_await`.

    `wait` runs a coroutine of the sink to its end in the loop of the sink, and returns its result;
    it may be called in any thread but the loop's.
    """

    def __init__(
        self, sink: Sink | None, wait: Callable[[Coroutine[Any, Any, Any]], Any], **about: Any
    ) -> None:
        super().__init__(sink, **about)
        self._wait = wait
        self._is_awaited = False

    def let_await(self) -> None:
        """Do all as Run from now on: the function has returned an awaitable."""
        self._is_awaited = True

    def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do as Run's, and block until the result is kept."""
        if self._is_awaited:
            return super().once(name, function, *args, **kwargs)
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
                value = self._wait(settled(value))
            with results.keeping(name, value) as text:
                self._wait(self._sink.keep(name, text))
        return results.recall(name)

    # Their callers do not await, so that these cannot stand in for Run's.
    def notify(  # type: ignore[override]
        self, title: object, content: object = None, severity: str = "info"
    ) -> None:
        """Do as Run's, and block."""
        note = self._sink.notify(*as_note(title, content, severity))
        return note if self._is_awaited else self._wait(note)  # type: ignore[return-value]

    def ask(  # type: ignore[override]
        self,
        name: str,
        title: object,
        options: Mapping[str, object],
        content: object = None,
        severity: str = "info",
        *,
        timeout: float | None = None,
    ) -> str:
        """Do as Run's, and block until there is an answer."""
        if self._is_awaited:
            return super().ask(  # type: ignore[return-value]
                name, title, options, content, severity, timeout=timeout
            )
        self._check()
        question = as_question(name, title, content, severity, options)
        seconds = as_timeout(timeout)
        results = self._once
        turn = results.turn(name, threading.Lock)
        self._refuse_inside_itself(name, turn)
        with turn, self._step_of(name), self._inside(name):
            if name not in results.kept:
                self._ask_first(question)
                self._learn(question, self._wait(self._sink.ask(question, seconds)), seconds)
        return self._chosen(name)

    def submit(  # type: ignore[override]
        self, kind: "Kind | str", params: Any = None, *, name: str | None = None, **more: Any
    ) -> str:
        """Do as Run's, and block until there is the id."""
        if self._is_awaited:
            return super().submit(  # type: ignore[return-value]
                kind, params, name=name, **more
            )
        self._check()
        with submission(self._numbers(), kind, params, name, more) as new:
            turn = self._once.turn(new.name, threading.Lock)
            self._refuse_inside_itself(new.name, turn)
            with turn:
                if self._is_new(new):
                    self._learn_id(new, self._wait(self._sink.submit(new)))
            return self._id_of(new)

    def stopped(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Block until the worker stops, `timeout` seconds at most; return whether it does.

        Raise CancelledError once nobody waits for the handler any more.
        """
        self._sink.check()
        if self._is_awaited:
            require(timeout is None, "a handler that awaits waits for the stop without a timeout")
            return super().stopped()  # type: ignore[return-value]
        stops = bool(futures.wait([self._told_to_stop()], timeout).done)
        self._sink.check()
        return stops
