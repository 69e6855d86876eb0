"""The connections of all processes by user, address and age; and closing them."""

import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from tornado_rt.census import Connected
from tornado_rt.gathering import Gathering
from tornado_rt.hub import Hub
from tornado_rt.protocol import CloseCode, ErrorCode, Message, MessageType, iso_time

LIST, CLOSE = "connections", "close"
# Most topics that are shown of one connection.
SHOWN_TOPICS = 20

CLOSED = Message.of(
    MessageType.ERROR,
    {"code": ErrorCode.FORBIDDEN, "message": "an admin has closed this connection"},
)


@attrs.frozen(kw_only=True)
class Chosen:
    """A filter of connections; an empty field matches all."""

    id: str = ""
    user: str = ""
    address: str = ""
    transport: str = ""


class Roll:
    """Lists connections, and closes them, over all processes."""

    def __init__(self, hub: Hub, gathering: Gathering) -> None:
        self._hub = hub
        self._gathering = gathering
        self._process = secrets.token_hex(4)
        gathering.answer_by(LIST, self._list_own)
        gathering.answer_by(CLOSE, self._close_own)

    async def list(self, chosen: Chosen, after: str, limit: int) -> dict[str, Any]:
        """Return a page, the oldest first, as it is on the wire."""
        asked = {"chosen": attrs.asdict(chosen), "after": after, "limit": limit}
        answers = [one for one in await self._gathering.ask(LIST, asked) if one is not None]
        found = sorted((one for answer in answers for one in answer["items"]), key=_place_of)
        shown = found[:limit]
        more = len(found) > limit or any(answer["more"] for answer in answers)
        return {
            "items": shown,
            "next": _place_of(shown[-1]) if more and shown else None,
            "processes": len(answers),
            "total": sum(answer["total"] for answer in answers),
        }

    async def close(self, chosen: Chosen) -> int:
        """Close connections; return how many there were."""
        answers = await self._gathering.ask(CLOSE, {"chosen": attrs.asdict(chosen)})
        return sum(one for one in answers if one is not None)

    def _list_own(self, asked: Any) -> dict[str, Any]:
        chosen, limit, after = Chosen(**asked["chosen"]), int(asked["limit"]), str(asked["after"])
        fitting = self._fitting(chosen)
        behind = sorted((one for one in fitting if self._place(one) > after), key=self._place)
        return {
            "items": [self._show(one) for one in behind[:limit]],
            "more": len(behind) > limit,
            "total": len(fitting),
        }

    def _close_own(self, asked: Any) -> int:
        leaving = self._fitting(Chosen(**asked["chosen"]))
        for connection in leaving:
            connection.leave(CloseCode.FORBIDDEN, CLOSED)
        return len(leaving)

    def _fitting(self, chosen: Chosen) -> Sequence[Connected]:
        return [one for one in self._hub.census if self._fits(one, chosen)]

    def _fits(self, one: Connected, chosen: Chosen) -> bool:
        asked: Iterable[tuple[str, str]] = (
            (chosen.user, one.identity.user_id),
            (chosen.address, one.address),
            (chosen.transport, one.transport.value),
            (chosen.id, self._id(one) if chosen.id else ""),
        )
        return all(wanted in ("", found) for wanted, found in asked)

    def _id(self, one: Connected) -> str:
        return f"{self._process}-{int(one.since * 1_000_000):x}"

    def _place(self, one: Connected) -> str:
        """Return its place among all: texts of one length, by age and process."""
        return f"{int(one.since * 1_000_000):016x}.{self._process}"

    def _show(self, one: Connected) -> dict[str, Any]:
        return {
            "id": self._id(one),
            "process": self._process,
            "user_id": one.identity.user_id,
            "address": one.address,
            "transport": one.transport,
            "since": iso_time(datetime.fromtimestamp(one.since, UTC)),
            "seconds": round(max(time.time() - one.since, 0.0), 3),
            "topics": one.topics()[:SHOWN_TOPICS],
        }


def _place_of(shown: dict[str, Any]) -> str:
    process, _, since = shown["id"].partition("-")
    return f"{int(since, 16):016x}.{process}"
