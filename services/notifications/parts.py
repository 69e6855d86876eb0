"""The parts that the verbs of notifications share, and how they are joined."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pymongo.errors import PyMongoError

from services.notifications.account import Account
from services.notifications.accounts import Accounts
from services.notifications.committer import Committer
from services.notifications.creation import Creation
from services.notifications.epochs import Epochs
from services.notifications.inbox import Inbox
from services.notifications.indexes import INBOX, make_indexes
from services.notifications.intents import Committed
from services.notifications.ledger import Ledger
from services.notifications.legacy import Legacy
from services.notifications.lifetime import Lifetime
from services.notifications.log import Log
from services.notifications.owed import Owed
from services.notifications.publication import Publication, counts_dict
from services.notifications.recount import Recount
from services.notifications.retention import Retention
from services.notifications.templates import Templates, load_templates
from services.notifications.types import NotificationTypes, load_types
from settings import default
from tornado_rt.batcher import Batcher
from tornado_rt.mongo import MongoAccess
from tornado_rt.protocol import Publisher

# Most accounts that one query reads.
READ_TOGETHER = 500


class Parts:
    """Holds the parts of the service; see there."""

    def __init__(
        self,
        database: Any,
        publisher: Publisher,
        *,
        access: MongoAccess | None = None,
        quota: int = default("notification_quota"),
        ttl_days: float = default("notification_ttl_days"),
        replay_limit: int = default("replay_limit"),
        templates: Templates | None = None,
        types: NotificationTypes | None = None,
    ) -> None:
        self._database = database
        self._all = database[INBOX]
        self._publisher = publisher
        self.access = access or MongoAccess(database)
        self._types = types or load_types("")
        lifetime = Lifetime(timedelta(days=ttl_days))
        self.templates = templates or load_templates()
        self._creation = Creation(lifetime, self.templates, self._types)
        self._epochs = Epochs(database["meta"])
        self._accounts = Accounts(database)
        self._legacy = Legacy(database, lifetime)
        self._recount = Recount(
            database, self._accounts, self._legacy, lambda: self._epochs.current
        )
        # A thousand who come at once ask a few times.
        self._reads: Batcher[str, tuple[Account, bool]] = Batcher(
            self._read_accounts, "read-accounts", together=READ_TOGETHER, common=(PyMongoError,)
        )
        self._publication = Publication(publisher)
        self.owed = Owed(database)
        self._committer = Committer(
            database,
            self._accounts,
            self._recount,
            epoch=lambda: self._epochs.current,
            tell=self._tell,
            note=self.owed.note,
            most_waiting_a_user=self.access.most_waiting_a_user,
            wait_seconds=self.access.wait_seconds,
        )
        self._inbox = Inbox(database, self._read_account)
        self._log = Log(database, self._read_account, replay_limit)
        self._retention = Retention(
            database,
            self.access,
            self._accounts,
            commit=self._commit,
            quota=quota,
        )
        self.run_trimmer = self._retention.run_trimmer
        self.run_clock = self._retention.run_clock
        self.trim_pending = self._retention.trim_pending
        self.do_due = self._retention.do_due

    async def prepare(self) -> None:
        """Make the indexes, look for data of the layout before, and begin an epoch."""
        await make_indexes(self._database)
        await self._legacy.look()
        await self._epochs.begin()

    async def close(self) -> None:
        """End what is under way."""
        await self._committer.close()
        await self._reads.close()

    async def counts(self, user_id: str) -> dict[str, int]:
        """Return `{unread, unseen, version}`."""
        return counts_dict(await self._read_account(user_id))

    async def _commit(self, intent: Any) -> Committed:
        async with self.access.watched():
            outcome = await self._committer.commit(intent)
        self._retention.watch(outcome.account)
        return outcome

    async def _tell(self, ledgers: Sequence[Ledger]) -> None:
        self.owed.wake(ledgers)
        await self._publication.tell(ledgers)

    async def _read_account(self, user_id: str) -> Account:
        account, is_broken = await self._reads.ask(user_id)
        return await self._recount.count(account) if is_broken else account

    async def _read_accounts(self, user_ids: list[str]) -> list[tuple[Account, bool]]:
        """Return the accounts, and whether each has to be counted."""
        async with self.access.watched():
            settled = await self._accounts.settled(list(dict.fromkeys(user_ids)))
            known, broken = await self._recount.look(settled)
        return [(known[id_], id_ in broken) for id_ in user_ids]
