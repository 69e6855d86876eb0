"""Runs the embedded MongoDB server, and mends what a kill has left of a table.

A server that is killed while it makes a table may leave one without a file, and then it never
starts again. Such a table holds nothing yet: it is dropped, and the server makes it anew.

This runs in the interpreter that has the server, which may not have us: it imports nothing of ours.
"""

import os
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve()
MEND = "--mend"
PATH_OPTION = "--storage-path"
CONFIGURATION = "log=(enabled=true),cache_size=64MB"
# A file with nothing in it but its head [B].
EMPTY_BYTES = 4096


def main() -> None:
    """Serve with the options of the command line; exit with the status of the server."""
    # The folder of this script has modules that are named as libraries are.
    sys.path[:] = [one for one in sys.path if Path(one).resolve() != HERE.parent]
    from secantus.cli import main as serve
    from wiredtiger import WiredTigerError

    if sys.argv[1:2] == [MEND]:
        del sys.argv[1]
        drop_unfinished(sys.argv[sys.argv.index(PATH_OPTION) + 1])
        sys.exit(serve())
    try:
        status = serve()
    except WiredTigerError:
        traceback.print_exc()
        # The store is open in this process; a program that is executed has nothing of it.
        os.execv(sys.executable, [sys.executable, str(HERE), MEND, *sys.argv[1:]])
    sys.exit(status)


def drop_unfinished(folder: str) -> None:
    """Drop each table that is not whole in the catalogue, and of which nothing is in a file."""
    from wiredtiger import wiredtiger_open

    connection = wiredtiger_open(folder, CONFIGURATION)
    session = connection.open_session()
    known = set()
    metadata = session.open_cursor("metadata:")
    while metadata.next() == 0:
        known.add(metadata.get_key())
    metadata.close()
    tables = sorted(one.partition(":")[2] for one in known if one.startswith("table:"))
    for name in tables:
        file = Path(folder) / f"{name}.wt"
        is_empty = not file.exists() or file.stat().st_size <= EMPTY_BYTES
        if is_empty and not {f"colgroup:{name}", f"file:{name}.wt"} <= known:
            print(f"table {name} was not finished: it is dropped", file=sys.stderr, flush=True)
            session.drop(f"table:{name}", "force=true")
    connection.close()


if __name__ == "__main__":
    main()
