"""The base of JSON endpoints: the body, the arguments, the answer, and the note of a change."""

import asyncio
import math
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from tornado.httputil import HTTPServerRequest
from tornado.web import (
    Application,
)

from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.json_body import parse, structure
from tornado_rt.locales import ENGLISH, Words
from tornado_rt.noting import Act, Note, action_of, noted, noted_body
from tornado_rt.problems import Problem
from tornado_rt.reader import json_in
from tornado_rt.web import BODY_METHODS, SAFE_METHODS, BaseHandler, refuse_without_folder
from tornado_rt.work.texts import phrase

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class ApiHandler(BaseHandler):
    """A JSON endpoint. The body is gathered here, so that one too large gets an answer.

    `anonymous`: no credentials are needed. `takes_body`: else a body is passed over.
    """

    anonymous = False
    takes_body = True

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        super().__init__(application, request, **kwargs)
        self._received = bytearray()
        self._answered: Any = None

    async def prepare(self) -> None:
        """Refuse before the body comes: no identity, nowhere to store, an encoded body."""
        await super().prepare()
        method = self.request.method or ""
        if method != "OPTIONS" and self.identifies and not self.anonymous:
            _ = self.identity
        if method not in SAFE_METHODS:
            refuse_without_folder(self.settings)
            self._note_when_served(method.lower())
        encoding = self.request.headers.get("Content-Encoding", "identity").lower()
        if method in BODY_METHODS and encoding != "identity":
            raise Problem(415, phrase("the body must come without Content-Encoding"))
        self._stop_deadline()
        task, body = asyncio.current_task(), self.request._body_future
        if body.done():
            self._received_all(task, body)
        else:
            body.add_done_callback(partial(self._received_all, task))

    def data_received(self, chunk: bytes) -> None:
        """Gather the body of a request that has one, and no more of it than is allowed."""
        super().data_received(chunk)
        if self.takes_body and not self._finished and self.request.method in BODY_METHODS:
            self._received += chunk

    def _received_all(self, task: "asyncio.Task[Any] | None", body: "asyncio.Future[None]") -> None:
        if body.exception() is None:
            self._start_deadline(task)

    def _note_when_served(self, name: str) -> None:
        """Have the change noted once it is served, if it is an admin's."""
        note: Note | None = self.settings.get("note")
        if note is None:
            return
        serve = getattr(self, name)

        async def serve_and_note(*args: str, **kwargs: str) -> None:
            # The next one is of the class again, and nothing refers to itself.
            self.__dict__.pop(name, None)
            error: BaseException | None = None
            try:
                if (served := serve(*args, **kwargs)) is not None:
                    await served
            except BaseException as raised:
                error = raised
                raise
            finally:
                if self.as_admin:
                    await note(self._act(error))

        setattr(self, name, serve_and_note)

    def _act(self, error: BaseException | None) -> Act:
        """Return what is noted of this request."""
        status, result = self.get_status(), self._answered
        if error is not None:
            problem = self._problem_of(500, error)
            status, result = problem.status_code, {"detail": problem.detail}
        return Act(
            user_id=self.identity.user_id,
            via="http",
            address=self.address,
            action=action_of(self.request),
            data=noted_body(self.raw_body()),
            status=status,
            result=noted(result),
        )

    @property
    def work_seconds(self) -> float:
        """The time for work that can be ended and continued: half of a request's time [s]."""
        return self.settings.get("request_timeout_seconds", 0.0) / 2 or math.inf

    def raw_body(self) -> bytes:
        """Return the body as it came."""
        return bytes(self._received)

    def body(self, shape: type[T], **most: int) -> T:
        """Read the JSON body into an attrs class. Raise Problem 400 or 422.

        `most` has bounds of its lists, by the names of the fields.
        """
        return structure(parse(self.raw_body()), shape, most)

    def argument(self, name: str) -> str | None:
        """Return a query argument, None without one. Raise Problem 400 for a repeated one.

        An empty one is none.
        """
        given = self.arguments(name)
        if len(given) > 1:
            raise Problem(400, phrase("{name} must not be repeated", name=name))
        return given[0] if given else None

    def arguments(self, name: str) -> list[str]:
        """Return a query argument that may be repeated; an empty one is none."""
        return [one for one in self.get_query_arguments(name) if one]

    def number(self, name: str, default: int, most: int, least: int = 1) -> int:
        """Read a query argument from `least` to `most`. Raise Problem 400."""
        text = self.argument(name)
        if text is None:
            return default
        if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise Problem(
            400,
            phrase(
                "{name} must be a number from {least} to {most}", name=name, least=least, most=most
            ),
        )

    def choice(self, name: str, choices: type[E]) -> E | None:
        """Read a query argument that is one of an enum's values. Raise Problem 400."""
        text = self.argument(name)
        return None if text is None else _chosen(name, text, choices)

    def choices(self, name: str, choices: type[E]) -> list[E]:
        """Read a query argument that may be repeated, each time as `choice`. Raise Problem 400."""
        return [_chosen(name, text, choices) for text in self.arguments(name)]

    def text(self, name: str, most: int) -> str | None:
        """Read a query argument of up to `most` characters. Raise Problem 400."""
        text = self.argument(name)
        try:
            check_name(name, text or "", most, least=0)
        except OutOfBounds as error:
            raise Problem(400, str(error)) from None
        return text

    def answer(self, value: Any, status: int = 200, words: Words = ENGLISH) -> None:
        """Finish with a JSON document, with the texts in it in a language."""
        self._answered = None if isinstance(value, bytes) else value
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json_in(words, value))

    def answer_in(self, words: Words, value: Any, status: int = 200) -> None:
        """Do as `answer` does, and say which language it is."""
        self.tell_language(words)
        self.answer(value, status, words)


def _chosen(name: str, text: str, choices: type[E]) -> E:
    try:
        return choices(text)
    except ValueError:
        raise Problem(
            400, phrase("{name} must be one of {choices}", name=name, choices=list(choices))
        ) from None
