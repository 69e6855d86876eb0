"""Messages of a worker that the server has still to answer. There is no I/O here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import attrs

from tornado_rt_client.errors import ProtocolError

# Most bytes of a message without its items.
FRAME_ROOM = 1024


class Verb(StrEnum):
    """Things that are said of attempts; each is a message of the socket and an address of HTTP."""

    REPORT = "report"
    EXTEND = "extend"
    ACK = "ack"


@attrs.define(eq=False)
class Item:
    """Something about one attempt, as JSON; `told` is called once, with the answer.

    `number` orders the items of a verb, in which they are sent.
    """

    verb: Verb
    content: bytes
    told: Callable[[dict[str, Any]], None]
    number: int = 0


@attrs.frozen
class Bounds:
    """The bounds of a message: its bytes, and how many items it has."""

    frame_bytes: int = 1024 * 1024
    items: int = 100


@attrs.frozen
class Batch:
    """Items that are sent together. Their answers come together too, under `ref`."""

    ref: int
    verb: Verb
    items: Sequence[Item]

    @property
    def body(self) -> bytes:
        """The JSON object that is sent."""
        return b'{"items":[%b]}' % b",".join(one.content for one in self.items)


class Outbox:
    """Keeps each item until it is answered, and gives them out in batches.

    After a lost connection all that was not answered is sent again, in its order: what repeats an
    item changes nothing at the server.
    """

    def __init__(self) -> None:
        self._waiting: dict[Verb, deque[Item]] = {verb: deque() for verb in Verb}
        self._sent: dict[int, Batch] = {}
        self._number = 0
        self._ref = 0

    def __len__(self) -> int:
        """Return how many items are not answered."""
        sent = sum(len(batch.items) for batch in self._sent.values())
        return sent + sum(map(len, self._waiting.values()))

    def put(self, item: Item) -> None:
        """Keep an item."""
        self._number += 1
        item.number = self._number
        self._waiting[item.verb].append(item)

    def take(self, bounds: Bounds) -> Iterator[Batch]:
        """Yield what waits, in batches; each is sent from then on."""
        for verb in Verb:
            while self._waiting[verb]:
                self._ref += 1
                batch = Batch(self._ref, verb, self._next(self._waiting[verb], bounds))
                self._sent[batch.ref] = batch
                yield batch

    def answer(self, ref: object, verb: Verb, answers: object) -> None:
        """Tell each item of a batch its answer. Raise ProtocolError for what is none of it."""
        batch = self._sent.get(ref) if isinstance(ref, int) else None
        if batch is None or batch.verb is not verb:
            raise ProtocolError(f"the server answered a {verb} that was not sent")
        if not isinstance(answers, list) or len(answers) != len(batch.items):
            raise ProtocolError(f"the server did not answer each item of a {verb}")
        del self._sent[batch.ref]
        for one, answer in zip(batch.items, answers, strict=True):
            one.told(answer if isinstance(answer, dict) else {})

    def knows(self, ref: object) -> bool:
        """Say whether this is the ref of a batch that is not answered."""
        return ref in self._sent

    def refuse(self, ref: int, error: dict[str, Any]) -> None:
        """Tell each item of a batch that the server has refused them all."""
        for one in self._sent.pop(ref).items:
            one.told({"error": error})

    def again(self, ref: int) -> None:
        """Send a batch again."""
        self._put_back(self._sent.pop(ref).items)

    def all_again(self) -> None:
        """Send all again that is not answered: the connection was lost."""
        self._put_back(one for batch in self._sent.values() for one in batch.items)
        self._sent.clear()

    def _put_back(self, items: Iterable[Item]) -> None:
        for one in sorted(items, key=lambda item: item.number, reverse=True):
            self._waiting[one.verb].appendleft(one)

    @staticmethod
    def _next(waiting: deque[Item], bounds: Bounds) -> list[Item]:
        """Return the first items that fit into one message; one alone in any case."""
        found = [waiting.popleft()]
        size = len(found[0].content) + FRAME_ROOM
        while waiting and len(found) < bounds.items:
            size += len(waiting[0].content) + 1
            if size > bounds.frame_bytes:
                break
            found.append(waiting.popleft())
        return found
