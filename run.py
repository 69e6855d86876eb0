"""The command: serve, run a worker, make a token, or see to the queue.

`python run.py` serves. Every setting may be given on the command line, by an `RT_*` variable, or
in the TOML file that `RT_CONFIG` names.
"""

import argparse
import asyncio
import contextlib
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import attrs
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from rich.console import Console
from typed_settings.cli_argparse import make_parser, namespace2settings
from typed_settings.exceptions import TsError

from services.analysis.words import EXAMPLE_BODY
from services.checking import WARNING, check_kinds
from services.console import ACTIONS, CommandFault
from services.kinds import KindError
from services.operating import KindNotFound
from services.queue import LimitsRefused, NotPurged, QueueError, TaskState
from services.worker import HandlerError
from settings import (
    CONFIG_VARIABLE,
    ENV_PREFIX,
    Settings,
    converter,
    loaders,
    unknown_variables,
)
from tornado_rt.app import open_queue, running_server, running_worker, url_of
from tornado_rt.auth import TokenVerifier, make_token
from tornado_rt.backplane import BackplaneDown
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.children import STOP_SECONDS, DidNotStart
from tornado_rt.data_folder import SECRET_FILE, BadFolder
from tornado_rt.demo import demo_refusal, is_loopback
from tornado_rt.lifetime import leave_process, run_until_stopped
from tornado_rt.logs import configure_logging
from tornado_rt.mongo import BadMongodbUrl
from tornado_rt.processes import running_processes
from tornado_rt.redis import BadRedisUrl
from tornado_rt.secret import SecretError, load_secret
from tornado_rt.stores import StoreError

log = structlog.get_logger(__name__)

BAD_SETTING = 2
FAILED = 1
READY_TOKEN_SECONDS = 12 * 3600.0
SCOPE_LENGTH = 255


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status."""
    # Its errors come to us as exceptions; it would print each a second time.
    logging.getLogger("typed_settings").setLevel(logging.CRITICAL)
    name, rest = _command(arguments)
    try:
        options, settings = _parse(name, rest)
    except (TsError, ValueError, FileNotFoundError) as error:
        _complain(_one_line(error))
        return BAD_SETTING
    # A handler may change the current folder.
    settings = attrs.evolve(settings, data_dir=settings.data_dir.absolute())
    configure_logging(settings.log_level)
    if getattr(options, "process", None) is None:
        # One of several processes leaves it to the first.
        _warn(name, settings)
    try:
        return COMMANDS[name](settings, options)
    except (
        *(SecretError, HandlerError, BadRedisUrl, BadMongodbUrl, OutOfBounds),
        *(KindError, CommandFault, LimitsRefused, NotPurged),
    ) as error:
        _complain(error)
        return BAD_SETTING
    except DidNotStart as error:
        if error.exit_code is None:
            _complain(error)
        # Else it has said why itself.
        return max(error.exit_code or 0, FAILED)
    except (BadFolder, StoreError, QueueError, KindNotFound, OSError) as error:
        _complain(error)
        return FAILED
    except (RedisError, PyMongoError, BackplaneDown) as error:
        reason = str(error).partition(", Timeout")[0]
        _complain(f"a store does not answer: {reason}")
        return FAILED


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    if settings.processes > 1 and options.process is None:
        command = [sys.executable, __file__, "serve", *options.arguments]
        seconds = _stop_seconds(settings) + STOP_SECONDS
        run_until_stopped(_serving_in_processes(settings, command), seconds)
    else:
        run_until_stopped(_serving(settings, options.process), _stop_seconds(settings))
    return 0


def work(settings: Settings, options: argparse.Namespace) -> int:
    """Run tasks until SIGTERM or SIGINT."""
    chosen = attrs.evolve(
        settings,
        worker_handler=settings.worker_handler if options.handler is None else options.handler,
        worker_concurrency=options.concurrency or settings.worker_concurrency,
        worker_processes=options.process_a_task or settings.worker_processes,
    )
    if not chosen.worker_concurrency:
        _complain("concurrency: must be 1 or more")
        return BAD_SETTING
    if not (chosen.kinds or chosen.worker_handler):
        _complain("kinds: there is nothing to run: name modules of kinds, or a handler")
        return BAD_SETTING
    run_until_stopped(running_worker(chosen), chosen.worker_grace_seconds)
    return 0


def token(settings: Settings, options: argparse.Namespace) -> int:
    """Print a token."""
    secret, _ = load_secret(settings)
    # So that it is not made of what the server would refuse.
    TokenVerifier(settings, secret)
    for scope in options.scope:
        check_name("scope", scope, SCOPE_LENGTH)
    if not secret:
        _complain("jwt_secret: tokens of a public key are made elsewhere")
        return BAD_SETTING
    _say(make_token(settings, secret, options.user, options.scope, options.ttl)[0])
    return 0


def check(settings: Settings, options: argparse.Namespace) -> int:
    """Say what is wrong with modules of kinds."""
    status = 0
    for module in options.module:
        count, faults = check_kinds(module, settings.task_params_bytes)
        for fault in faults:
            _say(fault)
        if any(not fault.startswith(WARNING) for fault in faults):
            status = FAILED
        else:
            _say(f"{module}: {count} {'kind' if count == 1 else 'kinds'}, nothing wrong")
    return status


def queue(settings: Settings, options: argparse.Namespace) -> int:
    """Show, retry, discard or purge tasks, pause kinds, move limits, or check the queue."""
    return asyncio.run(_on_queue(settings, options))


async def _on_queue(settings: Settings, options: argparse.Namespace) -> int:
    async with open_queue(settings) as service:
        told = await ACTIONS[options.action](service, options)
    for line in told.lines:
        _say(line)
    return FAILED if told.failed else 0


COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "serve": serve,
    "worker": work,
    "check": check,
    "token": token,
    "queue": queue,
}


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    if arguments and arguments[0] in COMMANDS:
        return arguments[0], arguments[1:]
    return "serve", arguments


def _parse(name: str, arguments: list[str]) -> tuple[argparse.Namespace, Settings]:
    parser, merged = make_parser(
        Settings,
        loaders(),
        converter=converter(),
        prog=f"run.py {name}",
        description="Serve (the default), run a worker, check kinds, make a token, or see to the "
        "queue.",
        epilog="Commands: run.py [serve] [--kinds MODULE,...], run.py worker --kinds MODULE,... "
        "--handler MODULE:FUNCTION --concurrency N, run.py check MODULE ..., "
        "run.py token --user U [--scope S ...] [--ttl SECONDS], run.py queue dead|check, "
        "run.py queue retry|discard TASK ..., run.py queue retry --status failed|dead, "
        "run.py queue pause|resume|drain [KIND], run.py queue purge --status S, "
        "run.py queue limits [KIND] [NAME=VALUE ...]. "
        f"A setting is also read from {ENV_PREFIX}NAME and from the TOML file {CONFIG_VARIABLE}.",
        allow_abbrev=False,
        conflict_handler="resolve",
    )
    parser.error = _usage_error  # type: ignore[method-assign]
    _add_own_options(parser, name)
    options = parser.parse_args(arguments)
    options.arguments = arguments
    settings = namespace2settings(Settings, options, merged_settings=merged, converter=converter())
    return options, settings


def _add_own_options(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "serve":
        # Which of several it is; the one that starts them says so.
        parser.add_argument("--process", type=_positive, help=argparse.SUPPRESS)
    if name == "worker":
        own = parser.add_argument_group("Worker")
        own.add_argument("--handler", metavar="MODULE:FUNCTION", help="what runs a task")
        own.add_argument("--concurrency", type=_positive, metavar="N", help="tasks at once")
        # The setting of this name is the server's.
        own.add_argument(
            "--processes",
            action="store_true",
            dest="process_a_task",
            help="a process for each task",
        )
    if name == "token":
        own = parser.add_argument_group("Token")
        own.add_argument("--user", required=True, help="user id")
        own.add_argument("--scope", action="append", default=[], help="a scope; may be repeated")
        own.add_argument("--ttl", type=_positive, default=3600, help="how long it is valid [s]")
    if name == "queue":
        own = parser.add_argument_group("Queue")
        own.add_argument("action", choices=list(ACTIONS))
        own.add_argument("names", nargs="*", help="ids of tasks, a kind, or NAME=VALUE of limits")
        own.add_argument("--kind", default="", help="only tasks of this kind")
        own.add_argument("--status", type=TaskState, default=None, help="only tasks in this state")
        own.add_argument("--user", default="", help="only tasks of this user")
        own.add_argument("--tag", default="", help="only tasks with this tag")
        own.add_argument("--limit", type=_positive, default=0, help="at most so many tasks")
        own.add_argument("--drop", action="store_true", help="drop the limits that were changed")
    if name == "check":
        own = parser.add_argument_group("Check")
        own.add_argument("module", nargs="+", help="a module with kinds, or the path of one")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _usage_error(message: str) -> NoReturn:
    _complain(message)
    sys.exit(BAD_SETTING)


def _one_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    # typed-settings quotes the reason as Python would, attrs puts its own objects behind it.
    option = re.search(r"for option '(\w+)'", text)
    reason = re.search(r"""ValueError\((["'])(.*?)\1(?:, Attribute|\)$)""", text)
    told = reason[2] if reason else text
    if option is None or told.startswith(f"{option[1]}:"):
        return told
    return f"{option[1]}: {told}"


@contextlib.asynccontextmanager
async def _serving(settings: Settings, process: int | None) -> AsyncIterator[None]:
    async with running_server(settings, process) as server:
        if process is None:
            _announce_to_whoever_reads(settings, server.url)
        yield


@contextlib.asynccontextmanager
async def _serving_in_processes(settings: Settings, command: list[str]) -> AsyncIterator[None]:
    async with running_processes(settings, command) as port:
        _announce_to_whoever_reads(settings, url_of(settings, port))
        yield


def _announce_to_whoever_reads(settings: Settings, url: str) -> None:
    # Rich ends the program when the reader is gone.
    with contextlib.suppress(OSError, ValueError, SystemExit):
        _announce(settings, url)


def _announce(settings: Settings, url: str) -> None:
    console = Console(soft_wrap=True, highlight=False)
    many = f" by {settings.processes} processes" if settings.processes > 1 else ""
    console.print(f"[bold]tornado_rt[/bold] serves {url}{many}")
    secret, generated = load_secret(settings)
    if generated:
        console.print(f"Token secret: made for this server, in {settings.data_dir / SECRET_FILE}")
    if off := demo_refusal(settings):
        if settings.demo_login:
            console.print(f"The demo login is off: {off}", markup=False)
        return
    ready, expires_at = make_token(settings, secret, "alice", [], READY_TOKEN_SECONDS)
    expiry = time.strftime("%Y-%m-%d %H:%M", time.localtime(expires_at))
    console.print(f"Page:   {url}/")
    console.print(f"Token of alice until {expiry}:\n{ready}")
    if settings.worker_handler:
        console.print("Submit a task and watch it:")
        console.print(_curl_line(url, ready), markup=False)


def _curl_line(url: str, ready: str) -> str:
    return (
        f"TOKEN={ready}\n"
        f'curl -N -H "Authorization: Bearer $TOKEN" {url}$(curl -s {url}/api/tasks '
        f"-H \"Authorization: Bearer $TOKEN\" -d '{EXAMPLE_BODY}' "
        '| sed \'s/.*"events":"\\([^"]*\\)".*/\\1/\')'
    )


def _stop_seconds(settings: Settings) -> float:
    return settings.drain_seconds + settings.worker_grace_seconds


def _say(line: str, *, to_stderr: bool = False) -> None:
    """Print a line; that nobody reads it changes nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True)


def _complain(error: object) -> None:
    _say(f"run.py: {error}", to_stderr=True)


def _warn(command: str, settings: Settings) -> None:
    """Say what is allowed and likely a mistake."""
    for variable, meant in unknown_variables().items():
        log.warning("unknown_setting", variable=variable, meant=meant or None)
    own_secret = not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks_url)
    if command == "serve" and own_secret and not is_loopback(settings.host):
        log.warning(
            "own_secret_beyond_this_machine",
            host=settings.host,
            advice="others can reach this server: set jwt_secret, jwt_public_key or jwt_jwks_url",
        )


if __name__ == "__main__":
    leave_process(main(sys.argv[1:]))
