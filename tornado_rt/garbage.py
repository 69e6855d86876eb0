"""How the garbage collector runs in our processes."""

import gc

# So many more objects than were freed start a collection. Python's 700 is less than what a busy
# loop holds at once: each request and each task would be looked through again and again.
YOUNG_OBJECTS = 10_000


def collect_seldom() -> None:
    """Leave out what was imported, and look for garbage when there is a lot of it.

    Nearly all that we make is freed as soon as nobody refers to it. Only cycles wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
