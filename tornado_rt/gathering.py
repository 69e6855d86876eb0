"""Asking all processes: each answers a question, and the one that asks gets all answers."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.protocol import ASKED, Cursor, Message, MessageType, channel

log = structlog.get_logger(__name__)

# A process that has not answered by then is slow, or dying: its part is missing.
ANSWER_SECONDS = 1.5
# An answer that nobody reads is kept for this long.
KEPT_SECONDS = 10
# A blocking read is asked again after this long.
READ_SECONDS = 0.3

# Answers a question: it is given the data of the question.
Answerer = Callable[[Any], Any]


class Gathering:
    """A subscriber of the topic `asked`.

    Questions are published where all listen, and answers go to a list that the one who asks reads.
    `spawn` runs a job that may outlive the call; `prefix` has the hash tag of `redis`'s other keys.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._redis = redis
        self._prefix = f"{prefix}answers:"
        self._spawn = spawn
        self._answerers: dict[str, Answerer] = {}

    def answer_by(self, question: str, answerer: Answerer) -> None:
        """Have a question answered in this process."""
        self._answerers[question] = answerer

    async def ask(self, question: str, data: Any) -> list[Any]:
        """Return the answers of all processes that answer within 1.5 s. Raise RedisError."""
        key = f"{self._prefix}{secrets.token_hex(8)}"
        asked = Message.of(MessageType.ASK, {"question": question, "key": key, "data": data})
        expected = await self._redis.publish(channel(ASKED), asked.encode())
        answers, until = list[Any](), time.monotonic() + ANSWER_SECONDS
        while len(answers) < expected and (left := until - time.monotonic()) > 0:
            found: Any = await self._redis.blpop([key], timeout=min(left, READ_SECONDS))
            if found is not None:
                answers.append(orjson.loads(found[1]))
        if len(answers) < expected:
            log.warning("process_silent", question=question, silent=expected - len(answers))
        return answers

    def deliver(self, message: Message) -> None:
        """Answer a question; one that this version does not know it answers with None."""
        self._spawn(self._answer(message.fields()), "answer")

    def gap(self) -> None:
        """Do nothing: who has asked gets no answer in time."""

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: questions have no log."""
        return False

    async def _answer(self, asked: dict[str, Any]) -> None:
        answerer = self._answerers.get(str(asked.get("question")))
        answer = None if answerer is None else answerer(asked.get("data"))
        if asyncio.iscoroutine(answer):
            answer = await answer
        key = str(asked.get("key"))
        if not key.startswith(self._prefix):
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(key, orjson.dumps(answer))
                pipe.expire(key, KEPT_SECONDS)
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.debug("not_answered", error=error)
