"""How the garbage collector runs in our processes."""

import gc

# A collection starts at this many more allocations than deallocations. A busy loop holds more than
# Python's 700 at once: each request and each task would be scanned again and again.
YOUNG_OBJECTS = 10_000


def collect_seldom() -> None:
    """Ignore imported objects, and collect rarely.

    Nearly all that we make is freed as soon as nobody refers to it. Only cycles wait.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()
