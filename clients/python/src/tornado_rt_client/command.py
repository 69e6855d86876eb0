"""The command of the client: a worker for a server elsewhere.

    RT_URL=https://rt.example.org RT_TOKEN=… python -m tornado_rt_client worker --kinds kinds.py

The environment has RT_URL, and RT_TOKEN or RT_JWT_SECRET: these do not belong on a command line,
which other users of the machine can read.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tornado_rt_client.errors import ApiError

PROGRAM = "python -m tornado_rt_client"
# The status of a program that was called wrongly.
WRONG_CALL = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the status of the program."""
    given = parse(arguments)
    try:
        from tornado_rt_client.worker import Worker
        from tornado_rt_client.worker.logs import log_to_stderr
        from tornado_rt_client.worker.parts import KindError

        log_to_stderr(logging.DEBUG if given.verbose else logging.INFO)
        worker = Worker(given.url, given.kinds, **credentials(given, os.environ), **options(given))
    except ModuleNotFoundError as error:
        return _tell(error)
    except KindError as error:
        return _tell(*error.faults)
    except (ValueError, OSError) as error:
        return _tell(error)
    try:
        worker.run()
    except ApiError as error:
        print(f"the server refuses this worker: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments. Raise SystemExit for wrong ones, and after the help."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="The client of tornado_rt.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    worker = verbs.add_parser(
        "worker",
        help="run tasks for a server elsewhere",
        description="Run tasks for a server elsewhere, until SIGTERM or SIGINT.",
        epilog="RT_TOKEN is a token of the scope rt:work, RT_JWT_SECRET the secret of the server.",
    )
    add = worker.add_argument
    add("--url", default=os.environ.get("RT_URL"), help="the server's address (RT_URL)")
    add(
        "--kinds",
        action="append",
        required=True,
        metavar="MODULE",
        help="a module with kinds, or the path of its file; commas between several",
    )
    add("--token-file", type=Path, metavar="PATH", help="a file with the token, read when needed")
    add("--concurrency", type=int, default=4, metavar="N", help="how many tasks run at once (4)")
    add("--process-per-task", dest="processes", action="store_true", help="a process for each task")
    # Its name of before.
    add("--processes", action="store_true", help=argparse.SUPPRESS)
    add("--timeout", type=float, default=0.0, metavar="SECONDS", help="of an attempt; 0: none")
    add("--grace", type=float, default=20.0, metavar="SECONDS", help="of tasks at a stop (20)")
    add("--transport", choices=("auto", "websocket", "http"), default="auto")
    add("--worker-id", metavar="ID", help="by default one of its own for each start")
    add("--traces", action="store_true", help="record a span of OpenTelemetry for each attempt")
    add("--verbose", action="store_true", help="log more")
    given = parser.parse_args(arguments)
    if not given.url:
        worker.error("give the server's address by --url or RT_URL")
    given.kinds = [one for part in given.kinds for one in part.split(",") if one]
    return given


def credentials(given: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return who the worker is. Raise ValueError when nothing says it, OSError for a bad file."""
    if given.token_file is not None:
        read = _reader_of(given.token_file)
        read()
        return {"token": read}
    if token := environment.get("RT_TOKEN"):
        return {"token": token}
    if secret := environment.get("RT_JWT_SECRET"):
        return {"secret": secret}
    raise ValueError("give a token by RT_TOKEN or --token-file, or the secret by RT_JWT_SECRET")


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the other arguments of the worker."""
    return {
        "concurrency": given.concurrency,
        "processes": given.processes,
        "timeout_seconds": given.timeout,
        "grace_seconds": given.grace,
        "transport": given.transport,
        "worker_id": given.worker_id,
        "traces": given.traces,
    }


def _reader_of(path: Path) -> Callable[[], str]:
    # Another program replaces the file to renew the token.
    return lambda: path.read_text().strip()


def _tell(*faults: object) -> int:
    for fault in faults:
        print(fault, file=sys.stderr)
    return WRONG_CALL
