"""Settings of the garbage collector in our processes."""

import gc

# A collection starts at this many more allocations than deallocations. A busy loop holds more than
# Python's 700 at once: each request and each task would be scanned again and again.
YOUNG_OBJECTS = 10_000
# Collections of the young until those that have survived one are scanned too, and of the latter
# until all are. The last takes 0.1 s where thousands of connections are open.
TO_MIDDLE, TO_OLD = 10, 100


def collect_seldom() -> None:
    """Ignore imported objects, and collect rarely.

    Nearly all that we make is freed as soon as nobody refers to it. Only cycles wait.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, TO_MIDDLE, TO_OLD)
    gc.enable()
