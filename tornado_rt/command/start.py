"""Where the installed command begins. It imports nothing yet: see `start`."""

import gc
import sys


def start() -> None:
    """Run the command that the arguments of this process name, and exit."""
    # Imported objects stay. Looking for garbage among them takes a tenth of the time of imports.
    gc.disable()
    from tornado_rt.command.main import main
    from tornado_rt.command.program import Program
    from tornado_rt.lifetime import leave_process

    # Without -P the current folder would come first, and its modules before those of libraries.
    again = [sys.executable, "-P", "-m", "tornado_rt"]
    leave_process(main(sys.argv[1:], Program("tornado-rt", again)))
