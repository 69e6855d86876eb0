"""Epochs: which numbers were given out without a loss.

Each start of a process begins an epoch, whose ordinal is one higher than any that the store knows.
An operation writes the epoch of its process into the account; the account remembers the ones before
with the last version in each. So a cursor of an earlier epoch is good up to that version, and what
was given out after a backup and lost with its restoring is not: it has an epoch that the account
does not know, or a version beyond the last.

A process that runs while the store is restored under it finds that the store has forgotten what it
wrote itself, and begins another epoch.
"""

import secrets
from typing import Any

import structlog
from pymongo.errors import DuplicateKeyError

from services.notifications.account import Epoch
from services.notifications.models import number_in

log = structlog.get_logger(__name__)

KEY = "inbox"


class Epochs:
    """The epoch of this process, written in `meta` with a `mark` that only goes up."""

    def __init__(self, meta: Any) -> None:
        self._meta = meta
        self._mark = 0
        self.current = Epoch(0, "")

    async def begin(self) -> None:
        """Begin an epoch."""
        while True:
            known = await self._read()
            ordinal = max(number_in(known, "ordinal"), self.current.ordinal) + 1
            changed = {"ordinal": ordinal, "mark": number_in(known, "mark") + 1}
            if await self._write(known, changed):
                self.current = Epoch(ordinal, secrets.token_hex(4))
                self._mark = changed["mark"]
                return

    async def check(self) -> bool:
        """Say whether the store is as we left it or further; else begin another epoch."""
        known = await self._read()
        mark = number_in(known, "mark")
        if mark < self._mark or number_in(known, "ordinal") < self.current.ordinal:
            log.warning("store_restored", mark=mark, expected=self._mark)
            await self.begin()
            return False
        if await self._write(known, {"mark": mark + 1}):
            self._mark = mark + 1
        return True

    async def _read(self) -> dict[str, Any]:
        return await self._meta.find_one({"_id": KEY}) or {}

    async def _write(self, known: dict[str, Any], changed: dict[str, int]) -> bool:
        """Change it unless somebody else has; say whether it was changed."""
        condition = {"_id": KEY, "mark": known.get("mark")}
        try:
            done = await self._meta.update_one(condition, {"$set": changed}, upsert=not known)
        except DuplicateKeyError:
            return False
        return bool(done.modified_count or done.upserted_id)
