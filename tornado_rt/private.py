"""Files that are for their owner only."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
UMASK = 0o077


def make_private_folder(folder: Path, ours: Collection[str]) -> None:
    """Make the folder, and take what is in it of the names `ours` from everybody but its owner.

    The folder itself is closed too unless it holds something else. Raise OSError.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    names = set(os.listdir(folder))
    if names <= set(ours):
        folder.chmod(FOLDER_MODE)
    for name in names.intersection(ours):
        _close(folder / name)


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at once, readable by its owner only. Raise OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def private_temporary_folder() -> Path:
    """Return a short folder that nobody else can enter. Raise OSError."""
    folder = Path(tempfile.gettempdir()) / f"tornado_rt-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if ours and not found.st_mode & UMASK:
        return folder
    # Somebody has taken the name.
    return Path(tempfile.mkdtemp(prefix="tornado_rt-"))


def _close(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) and mode & UMASK:
        path.chmod(FILE_MODE)
    elif stat.S_ISDIR(mode):
        path.chmod(FOLDER_MODE)
        for name in os.listdir(path):
            # The stores of a server that ends may still remove some.
            with contextlib.suppress(FileNotFoundError):
                _close(path / name)
