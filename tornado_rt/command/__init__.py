"""The command: `run.py` in a clone, `tornado-rt` where the package is installed.

`start` is what the installed command calls, `main` runs one command, `parsing` reads its options,
`verbs` has those that open the stores, and `remote` those that ask a server over HTTP, by parts of
the Python client. The wheel has these inside (docs/decisions/0016); in a clone they stand here:
"""

import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "clients" / "python" / "src"

if CLIENT.is_dir() and str(CLIENT) not in sys.path:
    # At the end: an installed client comes first.
    sys.path.append(str(CLIENT))
