"""Child processes that live as long as we do and are started again when they die by themselves.

They get SIGKILL from the kernel when we die (prctl(2), PR_SET_PDEATHSIG, Linux), and no signal that
a terminal sends to us: we stop them.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import structlog

from tornado_rt.work.attempts.fork_guard import sparing

log = structlog.get_logger(__name__)

START_SECONDS = 30.0
STOP_SECONDS = 10.0
# Waits before a child that died is started again: doubled each time; the first one again once it
# has lived for a while.
FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 10.0
POLL_SECONDS = 0.02
# A child that accepts connections this long after SIGTERM [s] has missed it.
SIGNAL_AGAIN_SECONDS = 0.5
PR_SET_PDEATHSIG = 1
PRIVATE_UMASK = 0o077
# A larger log is put aside, and replaces the one put aside before.
MOST_LOG_BYTES = 10 * 2**20
# Interval at which the log of a running child is read.
LOG_SECONDS = 1.0


class DidNotStart(Exception):
    """A child ended before it was ready, or was not ready in time: then `exit_code` is None."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ChildProcess:
    """One child process.

    It writes to `log_file`, or where we do. It inherits the descriptors `keep_open`. `private`:
    the files that it makes are for their owner only. `environment`: in place of ours. `wake` is
    called while the child stops, until it returns False: a server that blocks in accept(2) ends
    only at the next connection. A child that writes `broken` to its log is started again.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], Awaitable[bool]],
        *,
        log_file: Path | None = None,
        keep_open: Sequence[int] = (),
        private: bool = False,
        environment: Mapping[str, str] | None = None,
        wake: Callable[[], Awaitable[bool]] | None = None,
        broken: re.Pattern[bytes] | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._ready = ready
        self._log_file = log_file
        self._keep_open = keep_open
        self._umask = PRIVATE_UMASK if private else -1
        self._environment = environment
        self._wake = wake
        self._broken = broken
        # The log was read up to here [B].
        self._read = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start and wait until it is ready. Raise DidNotStart after 30 s or when it exits."""
        await self._spawn()
        try:
            await self._wait_ready()
        except BaseException:
            await self._terminate(STOP_SECONDS)
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"child-{self._name}")

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Terminate it; kill it after `seconds`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._terminate(seconds)

    async def _spawn(self) -> None:
        output = None if self._log_file is None else _open_log(self._log_file)
        self._read = 0 if output is None else output.tell()
        try:
            # The hook of a fork runs in it too, as in any child with a `preexec_fn`.
            with sparing(self._keep_open):
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=self._keep_open,
                    start_new_session=True,
                    umask=self._umask,
                    env=self._environment,
                    preexec_fn=_die_with_parent,
                )
        finally:
            if output is not None:
                output.close()

    async def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._ready():
            code = self._process.returncode
            if code is not None:
                raise DidNotStart(f"{self._name} did not start: {self._last_words()}", code)
            if asyncio.get_running_loop().time() > deadline:
                raise DidNotStart(
                    f"{self._name} is not ready after {START_SECONDS:.0f} s", exit_code=None
                )
            await asyncio.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        if self._log_file is None:
            return "see above"
        lines = self._log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            assert self._process is not None
            since = asyncio.get_running_loop().time()
            code = await self._end_of(self._process)
            if asyncio.get_running_loop().time() - since > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("child_died", child=self._name, exit_code=code, starts_in=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)
            try:
                await self._spawn()
            except OSError as error:
                # No descriptor is free, or the folder is away; the one that died is waited for
                # again, which ends at once.
                log.error("child_not_started", child=self._name, reason=str(error))

    async def _end_of(self, process: asyncio.subprocess.Process) -> int:
        """Wait for it; meanwhile bound its log, and kill it when it is broken."""
        ended = asyncio.ensure_future(process.wait())
        try:
            while not (await asyncio.wait([ended], timeout=LOG_SECONDS))[0]:
                if self._log_file is None:
                    continue
                if reason := await asyncio.to_thread(self._look_at_log, self._log_file):
                    log.error("child_broken", child=self._name, reason=reason)
                    process.kill()
            return ended.result()
        finally:
            ended.cancel()

    def _look_at_log(self, path: Path) -> str:
        """Bound the log; return the line that says that the child is broken, "" when none does."""
        # Nothing is found while its folder is away: to start again it needs the folder.
        with contextlib.suppress(OSError), path.open("rb") as file:
            self._read = min(self._read, path.stat().st_size)
            file.seek(self._read)
            lines = file.read(MOST_LOG_BYTES)
            # The last line may not be whole yet.
            self._read += lines.rfind(b"\n") + 1
            if self._broken is not None and (found := self._broken.search(lines)):
                return found.group().decode(errors="replace")
        _bound_log(path)
        return ""

    async def _terminate(self, seconds: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        _terminate(process)
        try:
            async with asyncio.timeout(seconds):
                await self._wake_up(process)
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _wake_up(self, process: asyncio.subprocess.Process) -> None:
        """Call `wake` until it returns False; repeat the signal to a child that does not notice."""
        again_at = asyncio.get_running_loop().time() + SIGNAL_AGAIN_SECONDS
        while self._wake is not None and process.returncode is None and await self._wake():
            if asyncio.get_running_loop().time() > again_at:
                again_at += SIGNAL_AGAIN_SECONDS
                _terminate(process)
            await asyncio.sleep(POLL_SECONDS)


def _terminate(process: asyncio.subprocess.Process) -> None:
    # A Python child runs its handler in its main thread, and the kernel may hand a signal of the
    # process to another one: that does not interrupt what the main thread waits for.
    if _tgkill is None or _tgkill(process.pid, process.pid, signal.SIGTERM):
        process.terminate()


def _open_log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > MOST_LOG_BYTES:
        path.replace(path.with_name(path.name + ".old"))
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _bound_log(path: Path) -> None:
    """Put aside a log that a child has open for appending, and empty it."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > MOST_LOG_BYTES:
            # Not kept when there is no room for a copy.
            with contextlib.suppress(OSError):
                aside = path.with_name(path.name + ".old")
                aside.unlink(missing_ok=True)
                with open(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as copy:
                    copy.write(path.read_bytes())
            os.truncate(path, 0)


# Loaded before the fork: the child may not import anything between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
# In glibc since 2.30.
_tgkill = getattr(_libc, "tgkill", None)


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
