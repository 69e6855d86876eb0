"""Reads the command line: the options of a command, and behind them every setting."""

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from itertools import takewhile
from typing import Any, NoReturn

from typed_settings.cli_argparse import make_parser, namespace2settings
from typed_settings.types import MergedSettings

from services.console import ACTIONS
from services.queue import TaskState
from settings import Settings, WrittenSettings, converter, loaders
from tornado_rt import __version__
from tornado_rt.command.help import QUEUE_SETTINGS, HelpText, help_of
from tornado_rt.command.program import Program, say

BAD_SETTING = 2
# The user whose token a server prints at its start, and as whom it is asked when no other is named.
READY_USER = "alice"
_HELP = {"--help", "-h"}

COMMAND_TEXTS = {
    "serve": HelpText(
        "[COMMAND] [OPTION ...]",
        "Serve: HTTP, WebSockets and event streams, with a worker. This is the default.",
        settings=(),
    ),
    "worker": HelpText(
        "worker [OPTION ...]",
        "Run tasks until SIGTERM or SIGINT.",
        (
            *("data_dir", "redis_url", "redis_fsync", "mongodb_url", "queue_name", "log_level"),
            *("kinds", "worker_handler", "worker_concurrency", "worker_port", "worker_processes"),
            *("worker_grace_seconds", "task_timeout_seconds", "task_result_bytes"),
            *("tls_certificate", "tls_key"),
        ),
    ),
    "check": HelpText(
        "check MODULE ... [OPTION ...]",
        "Say what is wrong with modules of kinds.",
        ("task_params_bytes",),
    ),
    "token": HelpText(
        "token --user U [OPTION ...]",
        "Print a token.",
        (
            *("data_dir", "jwt_secret", "jwt_algorithms", "jwt_issuer", "jwt_audience"),
            *("jwt_user_claim", "jwt_scope_claim", "jwt_topics_claim", "jwt_kinds_claim"),
        ),
    ),
    "queue": HelpText(
        "queue ACTION [NAME ...] [OPTION ...]",
        "See to the queue. Actions:\n\n"
        + "".join(f"  {name:<8} {action.purpose}\n" for name, action in ACTIONS.items())
        + "\n{program} queue ACTION --help shows what an action takes.",
        QUEUE_SETTINGS,
        formatter=argparse.RawDescriptionHelpFormatter,
    ),
    "submit": HelpText(
        "submit KIND [JSON] [OPTION ...]",
        "Submit a task to a running server, and print its id. JSON has the parameters of the task; "
        "- reads them from the standard input.",
    ),
    "watch": HelpText(
        "watch ID [OPTION ...]",
        "Show the steps of a task until it ends, or how many tasks of a batch are done. Exit with "
        "0 when it is completed, with 1 when it failed or was cancelled.",
    ),
    "why": HelpText(
        "why ID [OPTION ...]",
        "Say why a task is where it is, or why its user has not heard of its end, and all that has "
        "happened to it, in order.",
    ),
    "notify": HelpText(
        "notify USER TITLE [TEXT] [OPTION ...]",
        "Send a notification to a user, and print its id.",
    ),
}


def parse(program: Program, name: str, arguments: list[str]) -> tuple[argparse.Namespace, Settings]:
    """Read the arguments of a command. Raise TsError, ValueError, FileNotFoundError; exit for help.

    The options have the `program` and the `arguments` too.
    """
    if _HELP & set(takewhile(lambda one: one != "--", arguments)):
        # Help is shown whatever else is wrong or missing.
        say(_help_of(program, name, arguments))
        sys.exit(0)
    own = argparse.ArgumentParser(add_help=False)
    _add_own_options(program, own, name)
    parser, merged = _parser_of(program, name, own)
    # Names may stand before options and behind them.
    options = parser.parse_intermixed_args(arguments)
    if name == "queue" and options.action is None:
        _usage_error(program, f"name an action: {', '.join(ACTIONS)}")
    options.program, options.arguments = program, arguments
    written = namespace2settings(
        WrittenSettings, options, merged_settings=merged, converter=converter()
    )
    return options, Settings.of(written)


def _parser_of(
    program: Program, name: str, own: argparse.ArgumentParser
) -> tuple[argparse.ArgumentParser, MergedSettings]:
    """Return a parser of a command's own options, and behind them of the settings."""
    parser, merged = make_parser(
        WrittenSettings,
        loaders(),
        converter=converter(),
        prog=f"{program.name} {name}",
        allow_abbrev=False,
        conflict_handler="resolve",
        add_help=False,
        parents=[own],
    )
    parser.error = partial(_usage_error, program)  # type: ignore[method-assign]
    if name == "worker":
        # The setting of this name is the server's.
        _add_process_per_task(parser)
    return parser, merged


def _help_of(program: Program, name: str, arguments: list[str]) -> str:
    """Return the help of a command; of an action of the queue, if one is named."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--help", "-h", action="store_true", help="show this and exit")
    text = COMMAND_TEXTS[name]
    action = next((one for one in arguments if one in ACTIONS), None)
    if name != "queue":
        _add_own_options(program, own, name)
    elif action is not None:
        text = _text_of_action(action)
        _add_queue_options(own, ACTIONS[action].options)
    if name == "worker":
        _add_process_per_task(own)
    return help_of(program, name, own, text, COMMAND_TEXTS if name == "serve" else {})


def _add_process_per_task(parser: argparse.ArgumentParser) -> None:
    add = partial(parser.add_argument, dest="process_per_task", action="store_true")
    add("--process-per-task", help="a process for each task")
    # Its name of before, which means a number to `serve`.
    add("--processes", help=argparse.SUPPRESS)


def _add_own_options(program: Program, own: argparse.ArgumentParser, name: str) -> None:
    if name == "serve":
        # The number of this one among several; the process that starts them passes it.
        own.add_argument("--process", type=_positive, help=argparse.SUPPRESS)
        version = f"{program.name} {__version__}"
        own.add_argument("--version", action="version", version=version, help="print the version")
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
        own.add_argument(
            "--kind",
            action="append",
            default=[],
            metavar="PATTERN",
            help="kinds that a worker may work on [default: all]",
        )
        own.add_argument("--ttl", type=_positive, default=3600, help="how long it is valid [s]")
    if name == "queue":
        own.add_argument("action", nargs="?", choices=list(ACTIONS))
        own.add_argument("names", nargs="*", type=_filled)
        _add_queue_options(own, QUEUE_OPTIONS)
    if name == "check":
        own.add_argument(
            "module", nargs="+", help="a module with kinds, or the path of one; commas between"
        )
    if name == "submit":
        _add_submit_options(own)
    if name == "watch":
        own.add_argument("id", type=_filled, metavar="ID", help="id of a task or batch")
    if name == "why":
        own.add_argument("id", type=_filled, metavar="ID", help="id of a task")
        own.add_argument("--json", action="store_true", help="print it as the server answers it")
    if name == "notify":
        own.add_argument("to", type=_filled, metavar="USER", help="user id")
        own.add_argument("title", type=_filled, metavar="TITLE")
        own.add_argument("text", nargs="?", metavar="TEXT", help="what stands below the title")
        own.add_argument("--type", default="notice", help="type of the notification")
        own.add_argument("--severity", help="info, success, warning or error")
        own.add_argument("--link", help="where it leads to")
    if name in ("submit", "watch", "why", "notify"):
        _add_server_options(own)


def _add_submit_options(own: argparse.ArgumentParser) -> None:
    own.add_argument("kind", type=_filled, metavar="KIND", help="kind of the task")
    own.add_argument("params", nargs="?", default="{}", metavar="JSON", help="its parameters")
    own.add_argument("--label", help="what people see of it")
    own.add_argument("--priority", help="highest, high, normal, low or lowest")
    own.add_argument("--key", help="text that limits of the kind count by")
    own.add_argument("--tag", action="append", metavar="TAG", help="a tag; may be repeated")
    own.add_argument("--delay", type=float, metavar="SECONDS", help="how long it is set aside [s]")
    what = own.add_mutually_exclusive_group()
    what.add_argument("--watch", action="store_true", help="watch it until it ends, as watch does")
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="submit nothing: say when the task would start and end",
    )


def _add_server_options(own: argparse.ArgumentParser) -> None:
    own.add_argument(
        "--url", type=_filled, help="address of the server (RT_URL) [default: this machine, --port]"
    )
    own.add_argument(
        "--token",
        type=_filled,
        help="token (RT_TOKEN) [default: one that the secret of --data-dir signs]",
    )
    own.add_argument(
        "--user", default=READY_USER, help=f"user of a token made here [default: {READY_USER}]"
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


def _text_of_action(name: str) -> HelpText:
    action = ACTIONS[name]
    usage = " ".join(filter(None, ["queue", name, action.names, "[OPTION ...]"]))
    return HelpText(usage, f"{action.purpose[0].upper()}{action.purpose[1:]}.", QUEUE_SETTINGS)


def _usage_error(program: Program, message: str) -> NoReturn:
    program.complain(message)
    sys.exit(BAD_SETTING)
