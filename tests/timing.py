"""How long our own code takes, on a machine of any speed."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator

# What this loop takes where the bounds of the tests were chosen [s].
LOOP = 200_000
LOOP_SECONDS = 0.012
LOOPS = 3


@contextlib.contextmanager
def cpu_seconds() -> Iterator[Callable[[], float]]:
    """Tell the CPU time [s] of this thread since the block began, as on a machine of usual speed.

    No garbage is collected in it: to look through all that a test process has takes 0.3 s.
    """
    gc.disable()
    began = time.thread_time()
    try:
        yield lambda: (time.thread_time() - began) / slowness()
    finally:
        gc.enable()


def slowness() -> float:
    """Tell how many times slower this machine is now than usual; 1 for a faster one."""
    return max(min(_loop_seconds() for _ in range(LOOPS)) / LOOP_SECONDS, 1.0)


def _loop_seconds() -> float:
    began, total = time.thread_time(), 0
    for number in range(LOOP):
        total += number
    return time.thread_time() - began
