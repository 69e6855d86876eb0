"""The table of what was sent, received, repeated, doubled and missed."""

import collections
from collections.abc import Iterable, Mapping

import attrs


@attrs.define
class Row:
    """The fate of one kind of message, over all clients.

    `sent` counts a message once for each client that is owed it. `doubled` ones came too often,
    `missed` ones never. Clients drop messages that the server repeats, so they are not seen here.
    """

    what: str
    sent: int = 0
    received: int = 0
    doubled: int = 0
    missed: int = 0
    # Messages that were missed or doubled, and their clients.
    faults: list[str] = attrs.field(factory=list, repr=False)

    def add(self, owed: Mapping[str, int], got: collections.Counter[str], whose: str) -> None:
        """Count one client. `owed` says of each message how often it may come at most."""
        self.sent += len(owed)
        self.received += sum(1 for key in owed if got[key])
        self.doubled += sum(max(got[key] - most, 0) for key, most in owed.items())
        self.missed += sum(1 for key in owed if not got[key])
        wrong = {key: got[key] for key, most in owed.items() if not 1 <= got[key] <= most}
        self.faults += [f"{whose} got {key} {times} times" for key, times in wrong.items()]

    def merge(self, other: "Row") -> None:
        """Add what another row of the same kind counted."""
        for name in COLUMNS[1:]:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults


MOST_SHOWN = 20
COLUMNS = [field.name for field in attrs.fields(Row) if field.name != "faults"]


def table(rows: Iterable[Row]) -> str:
    """Return the rows as lines of text."""
    lines = [COLUMNS, *([str(getattr(row, name)) for name in COLUMNS] for row in rows)]
    return "\n".join(
        line[0].ljust(14) + "".join(cell.rjust(10) for cell in line[1:]) for line in lines
    )


def check(rows: Iterable[Row]) -> None:
    """Raise AssertionError when anything was missed or doubled."""
    rows = list(rows)
    faults = [fault for row in rows for fault in row.faults]
    assert not faults, "\n" + "\n".join([table(rows), *faults[:MOST_SHOWN]])
