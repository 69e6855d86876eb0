"""The data folder: for its owner only, and noticed when it goes away under a running server."""

import asyncio
import contextlib
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

OTHERS = 0o077
LOCK_FILE = "lock"
ADDRESSES_FILE = "stores.json"
# Entries that we make in it. A folder that holds nothing else is ours, and its mode is set.
OURS = {LOCK_FILE, ADDRESSES_FILE, "redis", "mongodb", "workers", "progress"}
# `secret` sets its mode when it reads the file, and warns that it was open.
SECRET_FILE = "jwt_secret"
VAPID_FILE = "vapid_private_key.pem"
EMAIL_SECRET_FILE = "email_secret"
SECRET_FILES = {SECRET_FILE, VAPID_FILE, EMAIL_SECRET_FILE}
# A store keeps this open in its folder as long as it runs.
KEPT = {"redis": "redis/appendonly.aof", "mongodb": "mongodb/files"}
LOOK_SECONDS = 0.5


class BadFolder(Exception):
    """The data folder cannot be used; the message names it and says why."""


def data_folder(path: Path) -> Path:
    """Return the data folder, absolute, whether it is there or not. Raise BadFolder."""
    folder = path.absolute()
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise BadFolder(f"data_dir: {str(folder)!r} has a name that is not UTF-8") from None
    if "\0" in str(folder):
        raise BadFolder(f"data_dir: {str(folder)!r} has a NUL in its name")
    # A link that leads nowhere does not exist either.
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise BadFolder(f"data_dir: {folder} is not a folder")
    return folder


def open_data_folder(path: Path) -> Path:
    """Make the data folder if need be, and let nobody else into what is ours; return it, absolute.

    Raise BadFolder, also when it cannot be made or read.
    """
    folder = data_folder(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = list(folder.iterdir())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadFolder(f"data_dir: {folder}: {reason}") from None
    for entry in entries:
        if entry.name in OURS and not entry.is_symlink():
            _close_to_others(entry)
    known = OURS | SECRET_FILES
    if all(entry.name in known or entry.name.startswith(".") for entry in entries):
        _close_one(folder)
    return folder


def private_folder(path: Path) -> Path:
    """Make a folder of ours, for its owner only. Raise OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_one(path)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner only; a reader sees the old or the new one whole."""
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
        raise


def _close_to_others(path: Path) -> None:
    _close_one(path)
    if path.is_dir():
        for inner in path.rglob("*"):
            if not inner.is_symlink():
                _close_one(inner)


def _close_one(path: Path) -> None:
    # We cannot change files of another user; the stores report it if that matters.
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            path.chmod(mode & ~OTHERS)


class FolderWatch:
    """Looks whether the data folder, and the folders of the stores in it, are where they were.

    A store whose files were removed goes on in deleted ones: all that it acknowledges is lost at
    the next start.
    """

    def __init__(self, folder: Path, stores: Sequence[str]) -> None:
        self._places = {folder / name: os.stat(folder / name) for name in (LOCK_FILE, *stores)}
        # Redis puts a fresh append-only file in the place of the old one: it may be another.
        places = [folder / KEPT[name] for name in stores]
        self._kept = [path for path in places if path.exists()]
        self.fault: str | None = None

    async def run(self) -> None:
        """Look until cancelled; `fault` says what is wrong."""
        while True:
            found = await asyncio.to_thread(self._find)
            if found != self.fault:
                self.fault = found
                if found is None:
                    log.warning("data_folder_back")
                else:
                    log.error("data_folder_gone", reason=found)
            await asyncio.sleep(LOOK_SECONDS)

    def _find(self) -> str | None:
        for path in self._kept:
            if not path.exists():
                return f"{path} was removed, or moved away"
        for path, before in self._places.items():
            try:
                now = os.stat(path)
            except OSError:
                return f"{path} was removed, or moved away"
            if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
                return f"{path} was replaced by another"
        return None
