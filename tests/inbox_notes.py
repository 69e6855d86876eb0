"""The notes of a process of the inbox walk: it writes each line before anything follows from it."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson

from services.notifications.intents import ActIntent, Create, Due, Intent, Needs, Trim, Undo
from services.notifications.ledger import Ledger
from tests.inbox_model import view_of
from tornado_rt.protocol import Message, MessageType, iso_time

# The target of a verb without ids: the version that was known when it was asked, and the filter as
# the model has it; None for a verb with ids.
asked: contextvars.ContextVar[tuple[Any, ...] | None] = contextvars.ContextVar(
    "asked", default=None
)


@contextlib.contextmanager
def asking(*what: Any) -> Iterator[None]:
    """Note with each intent of the block what it was asked by."""
    token = asked.set(what)
    try:
        yield
    finally:
        asked.reset(token)


class Notes:
    """Writes what happens to a file, each line before anything follows from it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._seen: set[tuple[Any, ...]] = set()

    def write(self, kind: str, *what: Any) -> None:
        os.write(self._file, orjson.dumps([kind, *what]) + b"\n")

    def write_once(self, *what: Any) -> None:
        """Write what has not been written since the last quiet point."""
        if what not in self._seen:
            self._seen.add(what)
            self.write(*what)

    def forget(self) -> None:
        self._seen.clear()
        os.ftruncate(self._file, 0)

    def fail(self, why: str) -> None:
        self.write("fail", why)

    def counts(self, user: str, version: int, unread: int, unseen: int) -> None:
        self.write_once("counts", user, version, unread, unseen)

    def told(self, user: str, message: Message) -> None:
        """Note what a version told a device, when it came live."""
        data, cursor = message.fields(), message.cursor
        assert cursor is not None
        is_new = message.type == MessageType.NOTIFICATION
        items = [data] if is_new else data["items"]
        deleted = () if is_new else data["deleted"]
        views = tuple(sorted(map(view_of, items)))
        self.write_once("told", user, cursor.offset, is_new, views, tuple(sorted(deleted)))

    def listed(self, user: str, state: str, floor: int, page: Any, views: list[Any]) -> None:
        """Note a list and the counts that came with it."""
        self.write("list", user, page.version, state, page.unread, page.unseen, views)
        if page.version < floor:
            self.fail(f"a list of {user} is of {page.version}, though {floor} was known")


@attrs.frozen
class Noted:
    """An intent that notes each time that it is applied, before the store hears of it."""

    intent: Any
    number: int
    notes: Notes
    asked: tuple[Any, ...] | None

    @property
    def user_id(self) -> str:
        user_id: str = self.intent.user_id
        return user_id

    @property
    def needs(self) -> Needs:
        needs: Needs = self.intent.needs
        return needs

    def apply(self, ledger: Ledger) -> Any:
        before = ledger.account.version
        result = self.intent.apply(ledger)
        deed = {
            "number": self.number,
            "before": before,
            "after": ledger.account.version,
            "now": iso_time(ledger.now),
            "asked": self.asked,
            **_described(self.intent, result),
        }
        self.notes.write("deed", self.user_id, deed)
        return result


def _described(intent: Intent, result: Any) -> dict[str, Any]:
    ids = [str(id_) for id_ in getattr(intent, "ids", ())]
    match intent:
        case Create():
            fields = {name: intent.fields.get(name) for name in ("title", "dedupe_key")}
            fields |= {"key": intent.key, "event_id": intent.event_id}
            for name in ("goes_at", "expires_at"):
                moment = intent.fields.get(name)
                fields[name] = None if moment is None else iso_time(moment)
            return {"kind": "create", "fields": fields, "id": str(result["_id"])}
        case ActIntent():
            until = None if intent.until is None else iso_time(intent.until)
            return {"kind": intent.verb, "ids": ids, "until": until, "count": result.count}
        case Undo():
            return {"kind": "undo", "argument": intent.version, "count": result.count}
        case Trim():
            return {"kind": "trim", "ids": list(map(str, result)), "argument": intent.quota}
    assert isinstance(intent, Due)
    return {"kind": "due", "ids": ids}
