"""Verbs of upkeep: data of before, and a store that is restored."""

import asyncio

import structlog
from pymongo.errors import PyMongoError

from services.notifications.parts import Parts

log = structlog.get_logger(__name__)

# Interval at which the store is compared with the state that we left [s].
CHECK_SECONDS = 30.0
MIGRATE_RETRY_SECONDS = 1.0


class InboxUpkeep(Parts):
    """Keeps the store as it should be."""

    async def run_watch(self) -> None:
        """Notice a store that was restored under us, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check_store()
            except PyMongoError as error:
                log.warning("store_check_waits", error=error)

    async def check_store(self) -> None:
        """Begin another epoch when the store has forgotten what we wrote."""
        if not await self._epochs.check():
            self._committer.forget()
            self._inbox.forget()

    async def run_migration(self) -> None:
        """Move all users of the layout before, until that is done."""
        while self._legacy.is_there:
            try:
                await self.migrate()
            except PyMongoError as error:
                log.warning("migration_waits", error=error)
                await asyncio.sleep(MIGRATE_RETRY_SECONDS)

    async def migrate(self) -> None:
        """Move all users of the layout before."""
        for user_ids in (self._legacy.user_ids, self._legacy.other_user_ids):
            for user_id in await user_ids():
                await self._move(user_id)
        await self._legacy.end()

    async def _move(self, user_id: str) -> None:
        """Move a user, and forget what was moved once that is on disk."""
        while True:
            seen = self._accounts.connection_count
            await self._read_account(user_id)
            if await self._accounts.is_kept(seen):
                break
        await self._legacy.forget((await self._legacy.read([user_id]))[user_id])
