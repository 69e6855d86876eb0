"""Finding tasks among all, by terms that the scripts keep of each (scripts/lib/found.lua)."""

import re
import time
from collections.abc import Sequence
from typing import Any

import attrs

from services.queue.access import QueueAccess
from services.queue.jobs import readable_job
from services.queue.models import TaskPage, TaskState
from services.queue.replies import read_task
from services.queue.terms import asked_terms, task_terms, term_of, word_terms

# One script looks at this many blocks of 256 tasks, and reads this many records: some
# milliseconds.
BLOCKS_AT_ONCE = 300
READ_AT_ONCE = 100
# A request looks on for this long [s], then it says where it goes on.
SEARCH_SECONDS = 0.08
BLOCKS_FOUND_AGAIN = 8
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@attrs.frozen(kw_only=True)
class Search:
    """A filter of all tasks; an empty field or None matches all. Times are seconds since the epoch.

    Each word of `words` stands in the label or in an error, as a whole word without case, or they
    are the id of one task. `before` is where a list goes on.
    """

    user: str = ""
    kind: str = ""
    statuses: Sequence[TaskState] = ()
    tag: str = ""
    batch: str = ""
    words: str = ""
    since: float | None = None
    until: float | None = None
    before: str = ""
    limit: int = 50

    def is_open(self) -> bool:
        """Say whether nothing is asked of a task."""
        asked = (self.user, self.kind, self.statuses, self.tag, self.batch, self.words.strip())
        return not any(asked) and self.since is None and self.until is None


@attrs.frozen
class Matches:
    """Ids and states of found tasks; `next` is where the search goes on, None at its end."""

    items: Sequence[tuple[str, TaskState]]
    next: str | None


class Searching(QueueAccess):
    """The verbs of operators who look for tasks of anybody."""

    async def search(self, wanted: Search) -> TaskPage:
        """Find tasks, the newest first.

        A page may have fewer than `limit`, even none, and go on all the same: one request looks
        for 60 ms.
        """
        replies, place = await self._search(wanted, brief=False)
        return TaskPage([read_task(reply) for reply in replies], place)

    async def match(self, wanted: Search) -> Matches:
        """Find tasks as `search` does, and return no more than their ids and states."""
        replies, place = await self._search(wanted, brief=True)
        found = [(id_.decode(), TaskState(status.decode())) for id_, status, _ in replies]
        return Matches(found, place)

    async def find_again(self) -> int:
        """Have tasks found that an earlier version made, and clear up after it.

        Return how many were not found before.
        """
        place, terms, count = "", list[Any](), 0
        await self._index()
        while True:
            reply, at = await self.scripts.run(
                "find_again",
                before=int(place) if place else None,
                blocks=BLOCKS_FOUND_AGAIN,
                tasks=terms,
            )
            terms = [[id_, _terms_of(job, error)] for id_, job, error in reply]
            count += len(terms)
            place = at.decode()
            if not place:
                break
        if terms:
            await self.scripts.run("find_again", before=None, blocks=0, tasks=terms)
        return count

    async def _index(self) -> None:
        """Sort in all that was noted so far."""
        while await self.scripts.run("index_tasks"):
            pass

    async def _search(self, wanted: Search, *, brief: bool) -> tuple[list[Any], str | None]:
        words = wanted.words.strip()
        own = [
            term_of(sort, value)
            for sort, value in (
                ("u", wanted.user),
                ("k", wanted.kind),
                ("b", wanted.batch),
                ("t", wanted.tag),
            )
            if value
        ]
        terms, id_ = [*own, *asked_terms(words)], words if TASK_ID.fullmatch(words) else ""
        found, place, until = list[Any](), wanted.before, time.monotonic() + SEARCH_SECONDS
        # Text without a letter or digit is in no label, and an id may be such.
        blocks = BLOCKS_AT_ONCE if not words or len(terms) > len(own) else 0
        await self._index()
        while True:
            part, at = await self.scripts.run(
                "search",
                terms=terms,
                id=id_,
                own=own,
                statuses=list(wanted.statuses),
                before=int(place) if place else None,
                since=wanted.since,
                till=wanted.until,
                most=wanted.limit - len(found),
                blocks=blocks,
                read=READ_AT_ONCE,
                brief=brief,
            )
            found += part
            place = at.decode() if blocks else ""
            if not place or len(found) >= wanted.limit or time.monotonic() >= until:
                return found, place or None


def _terms_of(job: bytes, error: bytes) -> list[bytes]:
    return task_terms(readable_job(job)) + word_terms(error.decode(errors="replace"))
