"""`run.py` as it is, but SIGUSR1 has it write down its asyncio tasks by name.

The file is named by FAULT_TASKS_FILE; no other process can count them.
"""

import asyncio
import collections
import json
import os
import re
import signal
from pathlib import Path

from tests.forks import script

TASKS_FILE = "FAULT_TASKS_FILE"


def write_tasks(*_: object) -> None:
    """Write how many tasks there are of each name, numbers left out."""
    names = (re.sub(r"[\d-]+$", "", task.get_name()) for task in asyncio.all_tasks())
    target = Path(os.environ[TASKS_FILE])
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(collections.Counter(names)))
    fresh.replace(target)


def serve() -> None:
    """Be `run.py` that tells its tasks."""
    signal.signal(signal.SIGUSR1, write_tasks)
    script()


if __name__ == "__main__":
    serve()
