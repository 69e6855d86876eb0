"""Notice that the data folder was removed, replaced or moved while stores write to it."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from tornado_rt.stores import LOCK_FILE, StoreAddresses, embedded_addresses

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
APPEND_ONLY_FILE = Path("redis/appendonly.aof")
REDIS = (Path("redis"), APPEND_ONLY_FILE)
MONGODB = (Path("mongodb"), Path("mongodb/files"))
Identity = tuple[int, int]


class FolderWatch:
    """Compares the folder with what it was at the start.

    `fault` says what is wrong, and is "" when nothing is. Without embedded stores nothing ever is.
    """

    def __init__(self, data_dir: Path, addresses: StoreAddresses) -> None:
        self._data_dir = data_dir.resolve()
        self._known = {path: self._identity(path) for path in self._paths(addresses)}
        self.fault = ""

    async def run(self) -> None:
        """Look twice a second until cancelled."""
        while self._known:
            # A stat of a disk that hangs may not hang the loop.
            self._note(await asyncio.to_thread(self.look))
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> str:
        """Say what is wrong now."""
        for path, known in self._known.items():
            found = self._identity(path)
            if found is None:
                return f"the data folder was removed: {self._data_dir / path} is not there"
            # Redis renames a fresh append-only file over the old one.
            if path != APPEND_ONLY_FILE and found != known:
                return f"the data folder was replaced: {self._data_dir / path} is another"
        return ""

    def _note(self, fault: str) -> None:
        if fault and not self.fault:
            log.error("data_folder_lost", reason=fault)
        elif self.fault and not fault:
            log.info("data_folder_back", folder=str(self._data_dir))
        self.fault = fault

    def _paths(self, addresses: StoreAddresses) -> Sequence[Path]:
        own = embedded_addresses(self._data_dir)
        redis = own is not None and own.redis_url and own.redis_url == addresses.redis_url
        mongodb = own is not None and own.mongodb_url and own.mongodb_url == addresses.mongodb_url
        if not redis and not mongodb:
            return ()
        return (Path(LOCK_FILE), *(REDIS if redis else ()), *(MONGODB if mongodb else ()))

    def _identity(self, path: Path) -> Identity | None:
        try:
            found = os.stat(self._data_dir / path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
