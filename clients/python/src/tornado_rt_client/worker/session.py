"""The talk between a worker and its server. There is no I/O here.

The socket and HTTP bring their messages here, and send what it has to say. A session outlives its
connections: the attempts go on while there is none.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import orjson

from tornado_rt_client.errors import ApiError, ProtocolError, error_of_code
from tornado_rt_client.worker.items import Given, ack_item, item, read_task, released_item
from tornado_rt_client.worker.outbox import Batch, Bounds, Item, Outbox, Verb
from tornado_rt_client.worker.parts import Ack

logger = logging.getLogger("tornado_rt_client")

ANSWERED = {"reported": Verb.REPORT, "extended": Verb.EXTEND, "acked": Verb.ACK}
YOURS = "yours"
# The refusals of a message that pass; it is repeated after this long [s].
PASSING_CODES = frozenset({"degraded", "conflict"})
AGAIN_SECONDS = 1.0
# Until the server has said how often.
EXTEND_SECONDS = 60.0
LEAST_EXTEND_SECONDS = 0.1

Key = tuple[str, str]


@attrs.frozen
class Began:
    """The server has sent a task."""

    given: Given


@attrs.frozen
class Lost:
    """An attempt is no longer ours: the task was cancelled, or is another's."""

    key: Key


@attrs.frozen
class Answered:
    """There may be an answer to a question of this attempt."""

    key: Key


News = Began | Lost | Answered


@attrs.define(eq=False)
class Held:
    """An attempt that the server counts as ours; `ended`: its end waits for an answer."""

    given: Given
    ended: bool = False
    extending: bool = False


class Session:
    """The attempts of a worker, and all that it has to say.

    `slots` is how many tasks it takes at once. `wake` is called when there is something to say.
    """

    def __init__(
        self,
        worker_id: str,
        kinds: Sequence[Mapping[str, Any]],
        slots: int,
        info: Mapping[str, Any],
        wake: Callable[[], None],
    ) -> None:
        self.worker_id = worker_id
        self.slots = slots
        self.held: dict[Key, Held] = {}
        self.outbox = Outbox()
        self.bounds = Bounds()
        # Most bytes of a result as JSON, 0 for any size.
        self.result_bytes = 0
        self.extend_seconds = EXTEND_SECONDS
        # No task is asked for any more.
        self.draining = False
        # Whether the server has taken what the worker said of itself on this connection.
        self.working = False
        self.wake = wake
        # Changes of attempts, until `news` is called.
        self._news: list[News] = []
        self._kinds = [dict(one) for one in kinds]
        self._info = dict(info)
        # When a refused message is said again [s, of the caller's clock].
        self._resume_at = 0.0
        self._drain_said = False

    # Said by the worker.

    def tell(self, verb: Verb, content: bytes, told: Callable[[dict[str, Any]], None]) -> None:
        """Say something about an attempt; `told` is called with the answer."""
        self.outbox.put(Item(verb, content, told))
        self.wake()

    def end(self, ack: Ack, told: Callable[[dict[str, Any]], None]) -> None:
        """Say how an attempt ended."""
        self._end((ack.task_id, ack.token), ack_item(ack), told)

    def release(self, key: Key) -> None:
        """Say that another may go on with a task, or that ours is over since it was lost."""
        self._end(key, released_item(*key), lambda _: None)

    def extend(self) -> None:
        """Keep the leases of all that runs."""
        for key, held in self.held.items():
            if not held.ended and not held.extending:
                held.extending = True
                self.outbox.put(Item(Verb.EXTEND, item(*key), self._extended(key, held)))
        self.wake()

    def drain(self) -> None:
        """Take no more tasks."""
        self.draining = True
        self.wake()

    @property
    def room(self) -> int:
        """The number of tasks that it can take now."""
        return 0 if self.draining else max(self.slots - len(self.held), 0)

    @property
    def running(self) -> list[dict[str, str]]:
        """The attempts that it holds, as the server is told of them."""
        return [{"task_id": task_id, "token": token} for task_id, token in self.held]

    # Said to the worker.

    def take_news(self) -> list[News]:
        """Return what has changed for attempts since the last call."""
        news, self._news = self._news, []
        return news

    def began(self, items: object) -> None:
        """Take the tasks that the server has sent; one that is held already is no other."""
        for one in _list(items):
            given = read_task(one)
            if given.key not in self.held:
                self.held[given.key] = Held(given)
                self._news.append(Began(given))

    def happened(self, items: object) -> None:
        """Take events of attempts."""
        for one in _list(items):
            key = _key(one)
            if one.get("event") == "answer":
                self._news.append(Answered(key))
            elif one.get("event") in ("cancelled", "lost"):
                self._lose(key)

    def learn_lease(self, extend_seconds: object) -> None:
        """Take the interval at which to extend leases [s]."""
        # A wrong one is no reason to let leases run out.
        if isinstance(extend_seconds, int | float) and extend_seconds >= LEAST_EXTEND_SECONDS:
            self.extend_seconds = float(extend_seconds)

    def cut(self) -> None:
        """Note that the connection was lost: what was not answered is said again."""
        self.working = False
        self._drain_said = False
        self._resume_at = 0.0
        self.outbox.all_again()

    # Over a socket.

    def hello(self) -> bytes:
        """Return the first message of a connection."""
        data = {
            "worker_id": self.worker_id,
            "kinds": self._kinds,
            "slots": 0 if self.draining else self.slots,
            "running": self.running,
            "info": self._info,
        }
        return orjson.dumps({"type": "work", "data": data})

    def claim_body(self, count: int, wait: float, lease: float) -> dict[str, Any]:
        """Return what is asked for tasks over HTTP."""
        return {
            "worker_id": self.worker_id,
            "kinds": self._kinds,
            "count": count,
            "wait": wait,
            "lease": lease,
            "running": self.running,
            "info": self._info,
        }

    def frames(self, now: float) -> Iterator[bytes]:
        """Yield the messages that can be sent now."""
        if not self.working or now < self._resume_at:
            return
        if self.draining and not self._drain_said:
            self._drain_said = True
            yield b'{"type":"drain"}'
        for batch in self.outbox.take(self.bounds):
            yield _frame(batch)

    def pause(self, now: float) -> float:
        """Return how long nothing is sent from now on [s]."""
        return max(self._resume_at - now, 0.0)

    def receive(self, text: str | bytes, now: float) -> None:
        """Take a message. Raise ProtocolError, ApiError when the server refuses the worker."""
        try:
            frame = orjson.loads(text)
            kind, data = str(frame["type"]), dict(frame.get("data") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ProtocolError("the server sent what is no message") from None
        if (verb := ANSWERED.get(kind)) is not None:
            self.outbox.answer(frame.get("ref"), verb, data.get("items"))
        elif kind == "tasks":
            self.began(data.get("items"))
        elif kind == "events":
            self.happened(data.get("items"))
        elif kind == "working":
            self._begin(data)
        elif kind == "error":
            self._refused(frame.get("ref"), data, now)

    def _begin(self, data: Mapping[str, Any]) -> None:
        """Take the answer to `hello`: what the server does not name any more was lost."""
        try:
            limits = dict(data.get("limits") or {})
            bounds = Bounds(
                int(limits.get("frame_bytes", self.bounds.frame_bytes)),
                int(limits.get("items", self.bounds.items)),
            )
            result_bytes = int(limits.get("result_bytes", 0))
        except (ValueError, TypeError):
            raise ProtocolError("the server sent limits that are none") from None
        self.bounds, self.result_bytes = bounds, result_bytes
        self.learn_lease(data.get("extend_seconds"))
        states = {_key(one): one.get("state") for one in _list(data.get("running"))}
        for key, held in tuple(self.held.items()):
            if not held.ended and states.get(key) != YOURS:
                self._lose(key)
            elif not held.ended:
                # An answer may have come meanwhile.
                self._news.append(Answered(key))
        self.working = True
        self.wake()

    def _refused(self, ref: Any, data: Mapping[str, Any], now: float) -> None:
        code, message = str(data.get("code", "")), str(data.get("message", ""))
        if code in PASSING_CODES:
            self._resume_at = now + AGAIN_SECONDS
        if self.outbox.knows(ref):
            if code in PASSING_CODES:
                self.outbox.again(ref)
            else:
                self.outbox.refuse(ref, dict(data))
        elif code not in PASSING_CODES and not self.working:
            raise error_of_code(code, message) or ProtocolError(f"{code}: {message}")
        elif code not in PASSING_CODES:
            logger.warning("the server says %s: %s", code, message)
        self.wake()

    def _end(self, key: Key, content: bytes, told: Callable[[dict[str, Any]], None]) -> None:
        held = self.held.get(key)
        if held is not None:
            held.ended = True

        def done(answer: dict[str, Any]) -> None:
            self.held.pop(key, None)
            told(answer)
            # There is room again.
            self.wake()

        self.tell(Verb.ACK, content, done)

    def _extended(self, key: Key, held: Held) -> Callable[[dict[str, Any]], None]:
        def told(answer: dict[str, Any]) -> None:
            held.extending = False
            if answer.get("state", YOURS) != YOURS:
                self._lose(key)

        return told

    def _lose(self, key: Key) -> None:
        held = self.held.get(key)
        if held is not None and not held.ended:
            self._news.append(Lost(key))


def fault_of(answer: Mapping[str, Any]) -> ApiError | ProtocolError | None:
    """Return why the server has refused an item, None when it has not."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return None
    code, message = str(error.get("code", "")), str(error.get("message", ""))
    return error_of_code(code, message) or ProtocolError(f"{code}: {message}")


def _frame(batch: Batch) -> bytes:
    return b'{"type":"%b","ref":%d,"data":%b}' % (batch.verb.encode(), batch.ref, batch.body)


def _list(items: object) -> list[dict[str, Any]]:
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise ProtocolError("the server sent what is no list of items")
    return items


def _key(one: Mapping[str, Any]) -> Key:
    return str(one.get("task_id")), str(one.get("token"))
