"""Changes of many users in few writes: who comes while a batch is under way is in the next one.

A batch takes the users who wait in turns, so that one who asks for much holds up nobody. It reads
their accounts, applies their intents to a ledger each, and does one operation for each user. When
another process was first with one of them, that user's intents go into the next batch.

It is long because the steps of a commit share the operation that they may have to repeat.
"""

import asyncio
import contextvars
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import attrs
import structlog
from pymongo.errors import PyMongoError

from services.notifications.account import (
    KEPT_STATES,
    MOST,
    Account,
    Document,
    Epoch,
    Operation,
)
from services.notifications.accounts import Accounts
from services.notifications.indexes import INBOX
from services.notifications.intents import Committed, Intent
from services.notifications.ledger import Ledger
from services.notifications.models import StoreConflict, StoreRefused, number_in
from services.notifications.recount import Recount
from settings import default
from tornado_rt.turns import NoTurn, TooManyWaiting
from tornado_rt.work.texts import phrase

log = structlog.get_logger(__name__)

# Most intents, and most documents that they name, in one batch; most intents of one user.
TOGETHER = 200
MOST_OF_A_USER = 20
# Batches that are under way at once: while the store works on one, another is prepared.
AT_ONCE = 2
# Number of times that intents are tried when others come first.
CONFLICTS = 50
# Number of times that an account is read again when one of its documents is newer, before it is
# counted.
LOOKS = 10
# Accounts that are remembered from the last operation.
REMEMBERED = 10_000
BACKOFF_SECONDS = 0.005


@attrs.define(eq=False)
class _Wish:
    """An intent that waits, and who waits for it."""

    intent: Intent
    done: asyncio.Future[Committed]
    tries: int = 0
    looks: int = 0

    @property
    def weight(self) -> int:
        needs = self.intent.needs
        return max(len(needs.ids), needs.places, 1)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            # The caller may have given up.
            self.done.exception()


# Tells devices what ledgers have changed.
Tell = Callable[[Sequence[Ledger]], Awaitable[None]]
# Notes in a ledger what else it leads to.
Note = Callable[[Ledger], None]


class Committer:
    """Commits intents; `most_waiting_a_user` of one user wait at most (0: any number)."""

    def __init__(
        self,
        database: Any,
        accounts: Accounts,
        recount: Recount,
        *,
        epoch: Callable[[], Epoch],
        tell: Tell,
        note: Note,
        most_waiting_a_user: int = default("mongodb_waiting_per_user"),
        wait_seconds: float = default("mongodb_wait_seconds"),
    ) -> None:
        self._inbox = database[INBOX]
        self._accounts = accounts
        self._recount = recount
        self._epoch = epoch
        self._tell = tell
        self._note = note
        self._most_waiting_a_user = most_waiting_a_user
        self._wait_seconds = wait_seconds or None
        self._waiting: OrderedDict[str, deque[_Wish]] = OrderedDict()
        self._known: OrderedDict[str, Account] = OrderedDict()
        # Whose batch is under way: their next one waits for it.
        self._busy: set[str] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._counting: set[asyncio.Task[None]] = set()
        accounts.endings.is_busy = self._busy.__contains__
        accounts.endings.ended = self._note_ended
        accounts.endings.released = self._start
        self._ending = accounts.endings.writing

    async def commit(self, intent: Intent) -> Committed:
        """Commit an intent; return its result. Raise what it raises, NoTurn, or PyMongoError."""
        line = self._waiting.setdefault(intent.user_id, deque())
        if 0 < self._most_waiting_a_user <= len(line):
            raise TooManyWaiting(phrase("too many requests of yours wait already"))
        wish = _Wish(intent, asyncio.get_running_loop().create_future())
        line.append(wish)
        self._start()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await wish.done
        except TimeoutError:
            raise NoTurn(
                phrase("no turn within {seconds} s", seconds=f"{self._wait_seconds:g}")
            ) from None

    async def close(self) -> None:
        """Stop; what waits is refused."""
        jobs = self._jobs | self._counting
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._accounts.endings.close()

    def forget(self) -> None:
        """Read every account anew: the store is not what it was."""
        self._known.clear()

    def remembered(self, user_id: str) -> Account | None:
        """Return an account as it was last seen here; it may have changed since."""
        return self._known.get(user_id)

    def _start(self) -> None:
        if self._waiting and len(self._jobs) < AT_ONCE:
            # It serves others too: it belongs to no handler that happens to be the first.
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            job = loop.create_task(self._run(), name="inbox-committer", context=context)
            self._jobs.add(job)

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._commit_or_fail(batch)
                self._busy -= batch.keys()
        except BaseException:
            self._busy.clear()
            waiting, self._waiting = self._waiting, OrderedDict()
            for wish in (one for line in waiting.values() for one in line):
                wish.done.cancel()
            raise
        finally:
            self._jobs.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next(self) -> dict[str, list[_Wish]]:
        """Take who waits in turns; who has more comes after all others the next time."""
        batch: dict[str, list[_Wish]] = {}
        room = TOGETHER
        for user_id in tuple(self._waiting):
            if room <= 0:
                break
            if user_id in self._busy or user_id in self._ending:
                continue
            line = self._waiting.pop(user_id)
            taken: list[_Wish] = []
            while line and len(taken) < MOST_OF_A_USER and (room > 0 or not taken):
                wish = line.popleft()
                if not wish.done.done():
                    taken.append(wish)
                    room -= wish.weight
            if taken:
                batch[user_id] = taken
            if line:
                self._waiting[user_id] = line
        self._busy |= batch.keys()
        return batch

    async def _commit_or_fail(self, batch: dict[str, list[_Wish]]) -> None:
        try:
            await self._commit(batch)
        except asyncio.CancelledError:
            for wish in _all(batch):
                wish.done.cancel()
            raise
        except Exception as error:
            self._forget(batch)
            if len(batch) > 1 and not isinstance(error, PyMongoError | OSError):
                # It may be about one user, with whom the others have nothing to do.
                for user_id, wishes in batch.items():
                    await self._commit_or_fail({user_id: wishes})
                return
            for wish in _all(batch):
                wish.fail(error)

    async def _commit(self, batch: dict[str, list[_Wish]]) -> None:
        accounts = await self._read_accounts(batch)
        if not batch:
            return
        now = _now()
        ledgers = {id_: Ledger(accounts[id_], self._epoch(), now) for id_ in batch}
        ahead = await self._read_documents(batch, ledgers)
        for user_id in ahead:
            self._look_again(accounts[user_id], batch.pop(user_id))
        applied = {id_: self._apply(wishes, ledgers[id_]) for id_, wishes in batch.items()}
        for id_ in batch:
            self._note(ledgers[id_])
        operations = {id_: one for id_ in batch if (one := ledgers[id_].operation()) is not None}
        won, refused = await self._do(operations, accounts, ledgers)
        lost = operations.keys() - won
        lost |= await self._outdated({id_: accounts[id_] for id_ in batch if id_ not in operations})
        await self._tell([ledgers[id_] for id_ in batch if id_ not in lost | refused])
        for user_id, results in applied.items():
            if user_id in lost:
                self._again([wish for wish, _ in results])
            elif user_id in refused:
                for wish, _ in results:
                    wish.fail(StoreRefused())
            else:
                _answer(results, ledgers[user_id])
        if lost:
            await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS))

    async def _do(
        self,
        operations: Mapping[str, Operation],
        accounts: Mapping[str, Account],
        ledgers: Mapping[str, Ledger],
    ) -> tuple[set[str], set[str]]:
        """Do operations; return whose nobody else was first with, and whose were refused."""
        if not operations:
            return set(), set()
        seen = self._accounts.connection_count
        won = await self._accounts.begin(operations, accounts)
        self._forget(operations)
        done = {id_: one for id_, one in operations.items() if id_ in won}
        if not done:
            return won, set()
        failed = await self._accounts.do(done, seen)
        broken = failed.refused | failed.lost
        whole = {id_: one for id_, one in done.items() if id_ not in broken}
        for user_id, operation in whole.items():
            self._remember(ledgers[user_id].account.after(operation))
        self._accounts.endings.add(whole)
        for user_id in broken:
            account = (await self._accounts.read([user_id]))[user_id]
            if user_id in failed.lost:
                # Others may have given out the same numbers again.
                account = attrs.evolve(account, is_whole=False)
            counted = await self._recount.count(account.settled() if account.is_busy else account)
            # All steps were done: devices that are told of them see the new epoch.
            ledgers[user_id].account = counted
        return won, failed.refused

    async def _outdated(self, unchanged: Mapping[str, Account]) -> set[str]:
        """Return the users whose remembered account, which asked for nothing, is not the newest."""
        if not unchanged:
            return set()
        now = await self._accounts.settled(list(unchanged))
        outdated = {id_ for id_, one in unchanged.items() if now[id_].version != one.version}
        self._forget(dict.fromkeys(outdated))
        return outdated

    async def _read_accounts(self, batch: dict[str, list[_Wish]]) -> dict[str, Account]:
        """Return the accounts; a user who has to be counted leaves the batch for that time."""
        accounts = {id_: self._known[id_] for id_ in batch if id_ in self._known}
        if missing := [id_ for id_ in batch if id_ not in accounts]:
            read = await self._accounts.settled(missing)
            whole, broken = await self._recount.look(read)
            accounts |= whole
            for user_id in broken:
                self._start_count(accounts.pop(user_id), batch.pop(user_id))
        return accounts

    def _look_again(self, account: Account, wishes: list[_Wish]) -> None:
        """Read an account again of which a document is newer.

        It is not the newest one, or a killed store has lost what came after it. One that stays so
        was damaged.
        """
        self._forget({account.user_id: None})
        for wish in wishes:
            wish.looks += 1
        if any(wish.looks > LOOKS for wish in wishes):
            self._start_count(attrs.evolve(account, is_whole=False), wishes)
        else:
            self._again(wishes)
            self._busy.discard(account.user_id)

    def _start_count(self, account: Account, wishes: list[_Wish]) -> None:
        job = asyncio.create_task(self._count(account, wishes), name="inbox-count")
        self._counting.add(job)
        job.add_done_callback(self._counting.discard)

    async def _count(self, account: Account, wishes: list[_Wish]) -> None:
        """Count a user, who stays busy meanwhile."""
        user_id = account.user_id
        try:
            await self._recount.count(account)
        except BaseException as error:
            for wish in wishes:
                wish.fail(error) if isinstance(error, Exception) else wish.done.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            for wish in reversed(wishes):
                self._waiting.setdefault(user_id, deque()).appendleft(wish)
        finally:
            self._busy.discard(user_id)
        self._start()

    async def _read_documents(
        self, batch: dict[str, list[_Wish]], ledgers: Mapping[str, Ledger]
    ) -> set[str]:
        """Let each ledger know the documents that its intents name.

        Return the users of whom one has a later version than the account.
        """
        needs = {id_: [wish.intent.needs for wish in wishes] for id_, wishes in batch.items()}
        ids = {id_ for some in needs.values() for one in some for id_ in one.ids}
        queries: list[Document] = []
        queries += [{"_id": {"$in": part}} for part in _parts(list(ids))]
        for user_id, some in needs.items():
            keys = {one.key for one in some if one.key is not None}
            versions = {one.version for one in some if one.version is not None}
            queries += [{"user_id": user_id, "key": key} for key in keys]
            queries += [{"user_id": user_id, "version": version} for version in versions]
            places = max(one.places for one in some)
            queries += _oldest(ledgers[user_id], places) if places else ()
        ahead = set()
        for found in await asyncio.gather(*map(self._find, queries)):
            for document in found:
                if (ledger := ledgers.get(document.get("user_id", ""))) is not None:
                    ledger.know([document])
                    if ledger.account.version < number_in(document, "version") <= MOST:
                        ahead.add(ledger.account.user_id)
        return ahead

    async def _find(self, query: Document) -> list[Document]:
        return [one async for one in self._inbox.find(query)]

    def _apply(self, wishes: list[_Wish], ledger: Ledger) -> list[tuple[_Wish, Any]]:
        """Apply intents in their order; one that fails changes nothing."""
        results = []
        for wish in wishes:
            try:
                results.append((wish, wish.intent.apply(ledger)))
            except Exception as error:
                wish.fail(error)
        return results

    def _again(self, wishes: list[_Wish]) -> None:
        for wish in reversed(wishes):
            wish.tries += 1
            if wish.tries >= CONFLICTS:
                wish.fail(StoreConflict(wish.intent.user_id))
            else:
                self._waiting.setdefault(wish.intent.user_id, deque()).appendleft(wish)

    def _remember(self, account: Account) -> None:
        self._known[account.user_id] = account
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _note_ended(self, user_id: str, operation: Operation) -> None:
        known = self._known.get(user_id)
        if known is not None and known.stamp == operation.stamp:
            self._known[user_id] = attrs.evolve(known, stamp=operation.stamp + 1, unwritten={})

    def _forget(self, user_ids: Mapping[str, object]) -> None:
        for user_id in user_ids:
            self._known.pop(user_id, None)


def _answer(results: list[tuple[_Wish, Any]], ledger: Ledger) -> None:
    for wish, result in results:
        if not wish.done.done():
            wish.done.set_result(Committed(result, ledger.account, ledger.news))


def _all(batch: dict[str, list[_Wish]]) -> list[_Wish]:
    return [wish for wishes in batch.values() for wish in wishes]


def _oldest(ledger: Ledger, places: int) -> list[Document]:
    """Return what finds the next ones that the quota may take."""
    account = ledger.account
    window = {"$gt": account.trimmed_seq, "$lte": ledger.place_after(places)}
    states = [one for one in KEPT_STATES if account.counts.of([one])]
    return [{"user_id": account.user_id, "state": one, "seq": window} for one in states]


def _parts(ids: list[Any]) -> list[list[Any]]:
    return [ids[start : start + TOGETHER] for start in range(0, len(ids), TOGETHER)]


def _now() -> datetime:
    """Return the time as the store keeps it, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
