"""Operations in the store: begun in an account, done to the documents, ended in the account.

The steps of an operation may be done again by anybody: an insert is known by its `_id`, and a
change passes over documents that have a later version. The write that begins an operation is
acknowledged before it is on disk. The last write of its steps is acknowledged when it is on disk,
and so is all before it: the embedded store and MongoDB have one journal, a replica set one log.
Between the two the store may be killed and started anew, or another member of a replica set become
the primary: then what was begun may be lost and its steps are done. A client that has gone to
another connection meanwhile looks for that, and counts the account.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import structlog
from bson import ObjectId
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.write_concern import WriteConcern

from services.notifications.account import FORGOTTEN, Account, Document, Operation
from services.notifications.endings import OTHERS_SECONDS, Endings
from services.notifications.indexes import INBOX, OWED, USERS
from services.notifications.models import StoreConflict
from tornado_rt.mongo import connections_of

log = structlog.get_logger(__name__)

DUPLICATE = 11000
# A later write of the same batch waits until all of it is on disk.
UNWAITED = WriteConcern(w=1, j=False)
# The process that began an operation has this long to finish it, before another one does [s].
PATIENCE_SECONDS = 0.25
LOOK_SECONDS = 0.002
# Number of documents that are looked at together.
LOOKED_AT = 200
REMEMBERED = 10_000
# Most documents that one write changes: the embedded store serves nobody else meanwhile.
TOGETHER = 50
# Codes of MongoDB that are about the document: bad value, overflow, invalid BSON, a field's name,
# validation, too large (as such and after an update), an index entry too long.
REFUSALS = {2, 15, 22, 52, 57, 121, 10334, 17419, 17420, 17280}


@attrs.frozen
class Failed:
    """Of whom the store has refused a document, and of whom it has lost that it was begun."""

    refused: set[str]
    lost: set[str]


class Accounts:
    """Reads and moves the accounts of users, and does their operations."""

    def __init__(self, database: Any) -> None:
        self._users = database.get_collection(USERS, write_concern=UNWAITED)
        self._inbox = database[INBOX]
        self._lazy_inbox = database.get_collection(INBOX, write_concern=UNWAITED)
        self._owed = database.get_collection(OWED, write_concern=UNWAITED)
        self._barrier = database["meta"]
        self._connections = connections_of(database)
        self.endings = Endings(self.end)
        # When each unfinished operation was seen first.
        self._seen: dict[ObjectId, float] = {}
        # Operations whose steps are known to be done.
        self._done: OrderedDict[ObjectId, None] = OrderedDict()

    @property
    def connection_count(self) -> int:
        """While it stays as it is, nothing that was written was lost."""
        return self._connections.count

    async def read(self, user_ids: Sequence[str]) -> dict[str, Account]:
        """Return the accounts as they stand; an empty one for a user who has none."""
        found = self._users.find({"_id": {"$in": list(user_ids)}})
        stored = {one["_id"]: one async for one in found}
        return {id_: Account.of(id_, stored.get(id_)) for id_ in user_ids}

    async def user_ids(self) -> list[str]:
        """Return all who have an account."""
        found = self._users.find({}, {"_id": 1})
        return [one["_id"] async for one in found if isinstance(one["_id"], str)]

    async def settled(self, user_ids: Sequence[str]) -> dict[str, Account]:
        """Return accounts as they are after their last operations, and do the rest of those.

        One whose last operation the store has lost in part is not whole.
        """
        settled: dict[str, Account] = {}
        while left := [id_ for id_ in user_ids if id_ not in settled]:
            seen = self._connections.count
            read = await self.read(left)
            busy = {id_: one for id_, one in read.items() if one.is_busy}
            settled |= {id_: one for id_, one in read.items() if id_ not in busy}
            done = await self._done_of(busy, seen)
            settled |= {id_: busy[id_].settled() for id_ in done}
            left_busy = {id_: one for id_, one in busy.items() if id_ not in done}
            if left_busy:
                broken = await self._wait_or_do(left_busy, seen)
                now = await self.read(list(broken))
                settled |= {id_: attrs.evolve(one, is_whole=False) for id_, one in now.items()}
        return settled

    async def _done_of(self, busy: Mapping[str, Account], seen: int) -> set[str]:
        """Return whose last operation was done, by the versions of its documents."""
        operations = {id_: one.operation for id_, one in busy.items() if one.operation is not None}
        asked = [id_ for one in operations.values() if one.id not in self._done for id_ in one.ids]
        versions: dict[Any, Any] = {}
        for start in range(0, len(asked), LOOKED_AT):
            part = {"_id": {"$in": asked[start : start + LOOKED_AT]}}
            found = self._inbox.find(part, {"version": 1})
            versions |= {one["_id"]: one.get("version") async for one in found}
        done, others = set(), {}
        for user_id, operation in operations.items():
            if operation.id in self._done:
                done.add(user_id)
            elif operation.is_done(versions):
                others[user_id] = operation
        if others:
            # Others are told of them: a store that is killed now must not lose them.
            if not await self.is_kept(seen):
                return done
            for operation in others.values():
                self._note_done(operation)
            self.endings.add(others, OTHERS_SECONDS)
        return done | others.keys()

    async def _wait_or_do(self, busy: Mapping[str, Account], seen: int) -> set[str]:
        """Wait a moment for the process whose operations these are, or do them for it.

        Return whose was not done as a whole.
        """
        now = time.monotonic()
        left: dict[str, Operation] = {}
        for user_id, account in busy.items():
            assert account.operation is not None
            since = self._seen.setdefault(account.operation.id, now)
            if now - since >= PATIENCE_SECONDS:
                left[user_id] = account.operation
        if not left:
            await asyncio.sleep(LOOK_SECONDS)
            return set()
        log.info("operation_done_for_another", users=len(left))
        failed = await self.do(left, seen)
        broken = failed.refused | failed.lost
        self.endings.add({id_: one for id_, one in left.items() if id_ not in broken})
        return broken

    def _note_done(self, operation: Operation) -> None:
        self._seen.pop(operation.id, None)
        self._done[operation.id] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    async def begin(
        self, operations: Mapping[str, Operation], before: Mapping[str, Account]
    ) -> set[str]:
        """Write operations into the accounts; return the users whose account was as before.

        Raise StoreConflict when that cannot be told any more.
        """
        writes = [_begin(before[id_], one) for id_, one in operations.items()]
        refused: set[str] = set()
        try:
            done = await self._users.bulk_write(writes, ordered=False)
            count = done.matched_count + done.upserted_count
        except BulkWriteError as error:
            failed = error.details["writeErrors"]
            if any(one["code"] != DUPLICATE for one in failed):
                raise
            refused = {list(operations)[one["index"]] for one in failed}
            count = error.details["nMatched"] + error.details["nUpserted"]
        if count + len(refused) == len(operations):
            return set(operations) - refused
        return await self._held(operations, count) if count else set()

    async def _held(
        self, operations: Mapping[str, Operation], count: int | None = None
    ) -> set[str]:
        """Return of whom the operation led to the account as it is now.

        Of some too much may have come since to tell; then `count`, how many it were, may do so.
        """
        now = await self.read(list(operations))
        held = {id_: now[id_].holds(one) for id_, one in operations.items()}
        if None in held.values() and count != sum(one is True for one in held.values()):
            raise StoreConflict(next(id_ for id_, one in held.items() if one is None))
        return {id_ for id_, one in held.items() if one}

    async def do(self, operations: Mapping[str, Operation], seen: int) -> Failed:
        """Do the steps. `seen` is the `connection_count` before the operations were begun or read.

        Of whom it fails, the account has to be counted.
        """
        refused: set[str] = set()
        before = -1
        while before != self._connections.count:
            # A step before the last one may be lost with a store that is killed.
            before = self._connections.count
            refused |= await self._steps(operations)
        lost: set[str] = set()
        if before != seen:
            # So may be what was begun.
            lost = operations.keys() - await self._held(operations)
        if lost:
            log.warning("begun_operation_lost", users=len(lost))
        for user_id in operations.keys() - lost:
            self._note_done(operations[user_id])
        return Failed(refused, lost)

    async def _steps(self, operations: Mapping[str, Operation]) -> set[str]:
        """Do all steps; return of whom a document was refused."""
        changes = [
            UpdateMany(change.wanted(), change.update())
            for one in operations.values()
            for part in one.changes
            for change in _parts(part)
        ]
        inserted = [document for one in operations.values() for document in one.inserted]
        owed = [document for one in operations.values() for document in one.owed]
        refused: set[str] = set()
        if owed:
            await _insert(self._owed, owed)
        if changes:
            refused |= await self._change(changes, operations, is_last=not inserted)
        if inserted:
            refused |= await _insert(self._inbox, inserted)
        elif len(changes) != 1:
            await self._wait_for_disk()
        return refused

    async def end(self, operations: Mapping[str, Operation]) -> None:
        """Write into the accounts what operations have changed there, if no later one has."""
        writes = [
            UpdateOne(
                {"_id": id_, "stamp": one.stamp},
                {"$set": {**one.after, "stamp": one.stamp + 1}},
            )
            for id_, one in operations.items()
        ]
        await self._users.bulk_write(writes, ordered=False)

    async def put(self, account: Account, was: Account) -> bool:
        """Write a whole account, found by counting, unless it has changed; say whether it was."""
        fields = account.to_fields()
        known = {"_id": account.user_id, "epoch": was.stored_epoch}
        if was.is_whole:
            known["stamp"] = was.stamp
        # Higher than any that counts operations: what a process does late does not meet it.
        next_even = was.stamp + 2 - was.stamp % 2
        stamp = next_even if was.is_whole and was.is_stored else 2 * int(time.time() * 1000)
        floor = {"$max": {"floor": account.floor}} if was.is_whole else {}
        fields |= {} if floor else {"floor": account.floor}
        update = {"$set": {**fields, "stamp": stamp, "op": None}, **floor}
        try:
            done = await self._users.update_one(known, update, upsert=not was.is_stored)
        except OperationFailure as error:
            if error.code != DUPLICATE:
                raise
            return False
        return bool(done.matched_count or done.upserted_id)

    async def purge(self, ids: Sequence[Any]) -> None:
        """Remove for good some that are gone."""
        for start in range(0, len(ids), TOGETHER):
            part = list(ids[start : start + TOGETHER])
            await self._lazy_inbox.delete_many(
                {"_id": {"$in": part}, "state": {"$in": list(FORGOTTEN)}}
            )

    async def copy_in(self, documents: Sequence[Document]) -> None:
        """Insert documents that another layout has kept, unless they are there."""
        await _insert(self._lazy_inbox, documents)

    async def raise_floor(self, user_id: str, version: int) -> None:
        """Note that what went up to a version cannot be told any more."""
        await self._users.update_one({"_id": user_id}, {"$max": {"floor": version}})

    async def _change(
        self, changes: Sequence[UpdateMany], operations: Mapping[str, Operation], is_last: bool
    ) -> set[str]:
        # Each of several would wait for the disk by itself.
        inbox = self._inbox if is_last and len(changes) == 1 else self._lazy_inbox
        try:
            await inbox.bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            _check_refused(error)
            log.error("change_refused", users=len(operations), error=error.details["writeErrors"])
            return set(operations)
        return set()

    async def is_kept(self, seen: int) -> bool:
        """Wait until all that was written is on disk; say whether nothing of it was lost.

        `seen` is the `connection_count` before it was written.
        """
        await self._wait_for_disk()
        return self._connections.count == seen

    async def _wait_for_disk(self) -> None:
        await self._barrier.update_one({"_id": "barrier"}, {"$inc": {"n": 1}}, upsert=True)


def _begin(before: Account, operation: Operation) -> UpdateOne:
    known = {"_id": before.user_id, "stamp": before.stamp}
    begun = {**before.unwritten, "stamp": operation.stamp, "op": operation.pack()}
    return UpdateOne(known, {"$set": begun}, upsert=not before.is_stored)


def _parts(change: Any) -> Iterable[Any]:
    for start in range(0, len(change.ids), TOGETHER):
        yield attrs.evolve(change, ids=change.ids[start : start + TOGETHER])


async def _insert(collection: Any, documents: Sequence[Document]) -> set[str]:
    """Insert those that are not there; return the users of the refused ones."""
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        _check_refused(error)
        return {
            documents[one["index"]]["user_id"]
            for one in error.details["writeErrors"]
            if list(one.get("keyPattern", {})) != ["_id"]
        }
    return set()


def _check_refused(error: BulkWriteError) -> None:
    """Raise what is not about the documents themselves."""
    codes = {one["code"] for one in error.details["writeErrors"]}
    if error.details.get("writeConcernErrors") or not codes <= {*REFUSALS, DUPLICATE}:
        raise error
