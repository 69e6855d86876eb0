"""Times of our own code, on a machine of any speed."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator

# This work took this long where the bounds of the tests were chosen [s]. It reaches far in memory:
# there machines differ most.
OBJECTS = 20_000
WORK_SECONDS = 0.006
TRIES = 3


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
    return max(min(_work() for _ in range(TRIES)) / WORK_SECONDS, 1.0)


def _work() -> float:
    began = time.thread_time()
    made = {str(number): [number] for number in range(OBJECTS)}
    assert sum(len(made[name]) for name in made) == OBJECTS
    return time.thread_time() - began
