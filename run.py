"""The command, in a clone: `python run.py` serves; `tornado_rt/command` has the rest.

Every setting may be given on the command line, by an `RT_*` variable, or in the TOML file that
`RT_CONFIG` names.
"""

import gc

if __name__ == "__main__":
    # Imported objects stay. Looking for garbage among them takes a tenth of the time of imports.
    gc.disable()

import sys

from tornado_rt.command import main as command
from tornado_rt.command.program import Program
from tornado_rt.lifetime import leave_process

PROGRAM = Program("run.py", [sys.executable, __file__])


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status."""
    return command.main(arguments, PROGRAM)


if __name__ == "__main__":
    leave_process(main(sys.argv[1:]))
