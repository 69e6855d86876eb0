"""The program that a user has called."""

import contextlib
import sys
from collections.abc import Sequence

import attrs


@attrs.frozen
class Program:
    """Its name, as help and complaints show it, and how it is started again as a child."""

    name: str
    command: Sequence[str]

    def complain(self, error: object) -> None:
        """Say what is wrong, on the stream of errors."""
        say(f"{self.name}: {error}", to_stderr=True)


def say(line: str, *, to_stderr: bool = False) -> None:
    """Print a line; that nobody reads it changes nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True)
