"""Accounts that are not there, not of this layout, or not whole: found again from the documents."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import structlog

from services.notifications.account import NONE, Account, Counts, Document, Epoch, counts_of
from services.notifications.accounts import Accounts
from services.notifications.indexes import INBOX
from services.notifications.legacy import Legacy
from services.notifications.models import number_in

log = structlog.get_logger(__name__)

# Most documents that one write copies.
TOGETHER = 50


class Recount:
    """Counts a user's documents."""

    def __init__(
        self, database: Any, accounts: Accounts, legacy: Legacy, epoch: Callable[[], Epoch]
    ) -> None:
        self._inbox = database[INBOX]
        self._accounts = accounts
        self._legacy = legacy
        self._epoch = epoch

    async def look(self, accounts: Mapping[str, Account]) -> tuple[dict[str, Account], set[str]]:
        """Return settled accounts, and whose have to be counted.

        Of one that was not there while there were documents it is looked again: a process may have
        made both in between.
        """
        known = dict(accounts)
        missing = [id_ for id_, one in accounts.items() if not one.is_stored]
        if missing:
            kept = self._inbox.find({"user_id": {"$in": missing}}, {"user_id": 1})
            found = {one["user_id"] async for one in kept}
            old = await self._legacy.read(missing)
            left = [id_ for id_ in missing if id_ in found or old[id_]]
            if left:
                known |= await self._accounts.settled(left)
            broken = {id_ for id_ in left if not known[id_].is_stored}
        else:
            broken = set()
        return known, broken | {id_ for id_, one in known.items() if not one.is_whole}

    async def count(self, account: Account) -> Account:
        """Find the account of one user anew, and write it.

        One that is whole is counted until that is written; else another process may have done it.
        """
        user_id, was_whole = account.user_id, account.is_whole and account.is_stored
        while True:
            seen = self._accounts.connection_count
            old = (await self._legacy.read([user_id]))[user_id]
            moved, last = self._legacy.moved(old, account.version or account.seq)
            await self._copy(moved)
            written = await self._accounts.put(await self._counted(account, moved, last), account)
            if written:
                while old and not await self._accounts.is_kept(seen):
                    seen = self._accounts.connection_count
                    await self._copy(moved)
                await self._legacy.forget(old)
            account = (await self._accounts.settled([user_id]))[user_id]
            if account.is_whole and account.is_stored and (written or not was_whole):
                return account

    async def _copy(self, moved: Sequence[Document]) -> None:
        for start in range(0, len(moved), TOGETHER):
            await self._accounts.copy_in(moved[start : start + TOGETHER])

    async def _counted(self, account: Account, moved: Sequence[Document], last: int) -> Account:
        user_id = account.user_id
        documents = [one async for one in self._inbox.find({"user_id": user_id})]
        documents = [await self._numbered(one) for one in documents]
        log.info("inbox_counted", user_id=user_id, documents=len(documents), moved=len(moved))
        version = max([last, *(number_in(one, "version") for one in documents)])
        counted = attrs.evolve(
            account,
            version=version,
            seq=max([account.seq, len(moved), *(number_in(one, "seq") for one in documents)]),
            counts=_sum(documents),
            operation=None,
            packed=None,
            unwritten={},
        )
        if account.is_stored and account.is_whole:
            return attrs.evolve(counted, version=version + 1)
        # Cursors were by the old numbers, of which this was the highest that the quota had taken.
        return attrs.evolve(
            counted,
            seq=len(moved) if moved else counted.seq,
            trimmed_seq=0,
            floor=account.floor or account.trimmed_seq,
            epoch=self._new_epoch(account),
            epochs=(),
        )

    async def _numbered(self, document: Document) -> Document:
        """Return a document with numbers where a hand has left none: else it cannot change."""
        missing = {
            name: number_in(document, name)
            for name in ("version", "seq", "made")
            if not isinstance(document.get(name), int | float)
        }
        if missing:
            await self._inbox.update_one({"_id": document["_id"]}, {"$set": missing})
        return document | missing

    def _new_epoch(self, account: Account) -> Epoch:
        """Return the old one for a user who is moved; else one of which no cursor is known."""
        if account.stored_epoch is None and account.is_stored and self._legacy.epoch:
            return Epoch(0, self._legacy.epoch)
        # So high that the process goes on with it.
        ordinal = max(account.epoch.ordinal if account.epoch else 0, self._epoch().ordinal)
        return Epoch(ordinal, secrets.token_hex(4))


def _sum(documents: list[Document]) -> Counts:
    counts = NONE
    for document in documents:
        counts = counts.moved(NONE, counts_of(document))
    return counts
