"""The data version: one number for the layout of all that is stored.

| version | written by | what is different |
| --- | --- | --- |
| 1 | until 2026-11-24 | tasks are hashes of many fields, their events streams, leases seconds |
| 2 | on 2026-11-24 | events are lists, of what the record does not tell itself |
| 3 | until 2026-11-28 | what is known when a task is made is one field, leases are milliseconds |
| 4 | on 2026-11-29 | tasks have kinds, priorities, keys; plans have digests; a line for each kind |
| 5 | since then | notifications are in `inbox`, with an account a user that holds their counts |

A change that an earlier version reads and writes beside is none of the layout: it adds fields with
defaults, or keys. Any other gets the next number, a step that leads to it, and a fixture.
"""

from tornado_rt import __version__
from tornado_rt.stores import StoreError

DATA_VERSION = 5
MADE_BY = f"tornado_rt {__version__}"


class DataRefused(StoreError):
    """This version cannot read the stored data; the message says what to do."""


def check_version(store: str, found: str, made_by: str) -> int:
    """Return the version that a store names. Raise DataRefused when it is newer, or none."""
    if found.isascii() and found.isdecimal() and 1 <= int(found) <= DATA_VERSION:
        return int(found)
    by = f", made by {made_by}" if made_by else ""
    raise DataRefused(
        f"the data in {store} has version {found!r}{by}; {MADE_BY} reads versions 1 to "
        f"{DATA_VERSION}: start the version that made it or a later one, or use another store"
    )
