"""The workers of this machine, and which of them are gone.

Each holds a lock on a file of its name for as long as it lives. The kernel frees it when the
process ends, however that ends (flock(2)): what a killed worker had claimed need not wait for the
end of its lease.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from tornado_rt.work.attempts import fork_guard

log = structlog.get_logger(__name__)

SUFFIX = ".worker"


class Roster:
    """The workers that use one folder; in a folder that cannot be written it stays empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def entered(self, worker_id: str) -> Iterator[None]:
        """Hold this worker's place until the block ends; then it is lost, like one that was killed.

        So what it could not hand back, because Redis was away, is found too.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._enter(worker_id, stack)
            except OSError as error:
                log.warning("worker_not_in_roster", error=error)
            yield

    def lost(self) -> list[str]:
        """Return the ids of the workers that are gone."""
        return [path.stem for path in self._folder.glob(f"*{SUFFIX}") if _is_free(path)]

    def forget(self, worker_id: str) -> None:
        """Strike out a worker."""
        # An entry that cannot be deleted is found again, and has no claims any more.
        with contextlib.suppress(OSError):
            self._path(worker_id).unlink()

    def _path(self, worker_id: str) -> Path:
        return self._folder / f"{worker_id}{SUFFIX}"

    def _enter(self, worker_id: str, stack: contextlib.ExitStack) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(worker_id)
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fork_guard.guard(descriptor)
        stack.callback(fork_guard.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Under its name only when it is locked: nobody can take it for one that was left.
        fresh.replace(path)


def _is_free(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Struck out by another, or not ours to look at.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
