"""The command: serve, run a worker, make a token, or see to the queue.

`python run.py` serves. Every setting may be given on the command line, by an `RT_*` variable, or
in the TOML file that `RT_CONFIG` names.
"""

import gc

if __name__ == "__main__":
    # Imported objects stay. Looking for garbage among them takes a tenth of the time of imports.
    gc.disable()

import argparse
import asyncio
import contextlib
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NoReturn

import attrs
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from rich.console import Console
from typed_settings.cli_argparse import make_parser, namespace2settings
from typed_settings.exceptions import TsError
from typed_settings.types import MergedSettings

from services.analysis.words import EXAMPLE_BODY
from services.checking import WARNING, check_kinds
from services.console import ACTIONS, Asked, CommandFault, check_asked
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
    stop_seconds,
    unknown_variables,
)
from tornado_rt.app import open_queue, running_server, running_worker, url_of
from tornado_rt.auth import PATTERN_LENGTH, TokenVerifier, make_token
from tornado_rt.backplane import BackplaneDown
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.children import STOP_SECONDS, DidNotStart
from tornado_rt.data_folder import SECRET_FILE, BadFolder
from tornado_rt.demo import demo_refusal, is_loopback
from tornado_rt.garbage import collect_seldom
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
    collect_seldom()
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
        seconds = stop_seconds(settings) + STOP_SECONDS
        run_until_stopped(_serving_in_processes(settings, command), seconds)
    else:
        run_until_stopped(_serving(settings, options.process), stop_seconds(settings))
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
    for topic in options.topic:
        check_name("topic", topic, PATTERN_LENGTH)
    if not secret:
        _complain("jwt_secret: tokens of a public key are made elsewhere")
        return BAD_SETTING
    made = make_token(settings, secret, options.user, options.scope, options.ttl, options.topic)
    _say(made[0])
    return 0


def check(settings: Settings, options: argparse.Namespace) -> int:
    """Say what is wrong with modules of kinds."""
    # Read as the setting is, so that a start says the same.
    settings = attrs.evolve(settings, kinds=options.module)
    if not settings.kinds:
        _complain("check: name a module")
        return BAD_SETTING
    sound, faults = check_kinds(*settings.kinds, settings=settings)
    for fault in faults:
        _say(fault)
    for module, count in sound.items():
        _say(f"{module}: {count} {'kind' if count == 1 else 'kinds'}, nothing wrong")
    return FAILED if any(not fault.startswith(WARNING) for fault in faults) else 0


def queue(settings: Settings, options: argparse.Namespace) -> int:
    """Show, retry, discard or purge tasks, pause kinds, move limits, or check the queue."""
    return asyncio.run(_on_queue(settings, options))


async def _on_queue(settings: Settings, options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in QUEUE_OPTIONS}
    asked = Asked(options.names, **given)
    check_asked(options.action, asked)
    async with open_queue(settings) as service:
        told = await ACTIONS[options.action].run(service, asked)
    for line in told.lines:
        _say(line)
    for note in told.notes:
        _complain(note)
    return FAILED if told.failed else 0


COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "serve": serve,
    "worker": work,
    "check": check,
    "token": token,
    "queue": queue,
}


@attrs.frozen
class Text:
    """The parts of a command's help."""

    usage: str
    description: str
    more: str = ""
    formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter


COMMAND_TEXTS = {
    "serve": Text(
        "[serve] [OPTION ...]",
        "Serve (the default), run a worker, check kinds, make a token, or see to the queue.",
        "Commands: run.py [serve] [--kinds MODULE,...], run.py worker --kinds MODULE,... "
        "--handler MODULE:FUNCTION --concurrency N, run.py check MODULE ..., "
        "run.py token --user U [--scope S ...] [--topic PATTERN ...] [--ttl SECONDS], "
        "run.py queue ACTION. "
        "run.py COMMAND --help says more of each. ",
    ),
    "worker": Text("worker [OPTION ...]", "Run tasks until SIGTERM or SIGINT."),
    "check": Text("check MODULE ... [OPTION ...]", "Say what is wrong with modules of kinds."),
    "token": Text("token --user U [OPTION ...]", "Print a token."),
    "queue": Text(
        "queue ACTION [NAME ...] [OPTION ...]",
        "See to the queue. Actions:\n\n"
        + "".join(f"  {name:<8} {action.purpose}\n" for name, action in ACTIONS.items())
        + "\nrun.py queue ACTION --help shows what an action takes.",
        formatter=argparse.RawDescriptionHelpFormatter,
    ),
}


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    if arguments and arguments[0] in COMMANDS:
        return arguments[0], arguments[1:]
    return "serve", arguments


def _parse(name: str, arguments: list[str]) -> tuple[argparse.Namespace, Settings]:
    # The help of an action is shown when all is read.
    own = argparse.ArgumentParser(add_help=name != "queue")
    _add_own_options(own, name)
    parser, merged = _parser_of(name, own, COMMAND_TEXTS[name])
    # Names may stand before options and behind them.
    options = parser.parse_intermixed_args(arguments)
    if name == "queue" and (options.help or options.action is None):
        _show_actions(options)
    options.arguments = arguments
    settings = namespace2settings(Settings, options, merged_settings=merged, converter=converter())
    return options, settings


def _parser_of(
    name: str, own: argparse.ArgumentParser, text: Text
) -> tuple[argparse.ArgumentParser, MergedSettings]:
    """Return a parser of a command's own options, and behind them of the settings."""
    parser, merged = make_parser(
        Settings,
        loaders(),
        converter=converter(),
        prog=f"run.py {name}",
        usage=f"run.py {text.usage}",
        description=text.description,
        epilog=f"{text.more}A setting is also read from {ENV_PREFIX}NAME and from the TOML file "
        f"{CONFIG_VARIABLE}.",
        allow_abbrev=False,
        conflict_handler="resolve",
        add_help=False,
        formatter_class=text.formatter,
        parents=[own],
    )
    parser.error = _usage_error  # type: ignore[method-assign]
    if name == "worker":
        # The setting of this name is the server's.
        parser.add_argument(
            "--processes",
            action="store_true",
            dest="process_a_task",
            help="a process for each task",
        )
    return parser, merged


def _add_own_options(own: argparse.ArgumentParser, name: str) -> None:
    if name == "serve":
        # Which of several it is; the one that starts them says so.
        own.add_argument("--process", type=_positive, help=argparse.SUPPRESS)
    if name == "worker":
        own.add_argument("--handler", metavar="MODULE:FUNCTION", help="what runs a task")
        own.add_argument("--concurrency", type=_positive, metavar="N", help="tasks at once")
    if name == "token":
        own.add_argument("--user", required=True, help="user id")
        own.add_argument("--scope", action="append", default=[], help="a scope; may be repeated")
        own.add_argument(
            "--topic",
            action="append",
            default=[],
            metavar="PATTERN",
            help="topics of the application that may be followed; * for any characters",
        )
        own.add_argument("--ttl", type=_positive, default=3600, help="how long it is valid [s]")
    if name == "queue":
        own.add_argument("action", nargs="?", choices=list(ACTIONS))
        own.add_argument("names", nargs="*", type=_filled)
        own.add_argument("--help", "-h", action="store_true")
        _add_queue_options(own, QUEUE_OPTIONS)
    if name == "check":
        own.add_argument(
            "module", nargs="+", help="a module with kinds, or the path of one; commas between"
        )


def _filled(text: str) -> str:
    # It is an empty variable of a shell, and would mean all.
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _state(text: str) -> TaskState:
    if text not in list(TaskState):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(TaskState)}")
    return TaskState(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


# The options of all actions, each as argparse takes it.
QUEUE_OPTIONS: dict[str, dict[str, Any]] = {
    "status": {"type": _state, "metavar": "STATE", "help": "only tasks in this state"},
    "kind": {"type": _filled, "help": "only this kind"},
    "user": {"type": _filled, "help": "only tasks of this user"},
    "tag": {"type": _filled, "help": "only tasks with this tag"},
    "limit": {"type": _positive, "metavar": "N", "help": "at most N tasks"},
    "drop": {"action": "store_true", "help": "drop the limits that were changed"},
}


def _add_queue_options(own: argparse.ArgumentParser, names: Iterable[str]) -> None:
    for name in names:
        own.add_argument(f"--{name}", default=argparse.SUPPRESS, **QUEUE_OPTIONS[name])


def _show_actions(options: argparse.Namespace) -> NoReturn:
    """Print the actions, or all of one that is named, and exit."""
    if not options.help:
        _usage_error(f"name an action: {', '.join(ACTIONS)}")
    own = argparse.ArgumentParser(add_help=False)
    text = COMMAND_TEXTS["queue"]
    if options.action is not None:
        action = ACTIONS[options.action]
        _add_queue_options(own, action.options)
        usage = " ".join(filter(None, ["queue", options.action, action.names, "[OPTION ...]"]))
        text = Text(usage, f"{action.purpose[0].upper()}{action.purpose[1:]}.")
    _say(_parser_of("queue", own, text)[0].format_help().rstrip())
    sys.exit(0)


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
