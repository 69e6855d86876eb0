"""Reads the command line: the options of a command, and behind them every setting."""

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn

import attrs
from typed_settings.cli_argparse import make_parser, namespace2settings
from typed_settings.types import MergedSettings

from services.console import ACTIONS
from services.queue import TaskState
from settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, converter, loaders
from tornado_rt import __version__
from tornado_rt.command.program import Program, say

BAD_SETTING = 2
# The user whose token a server prints at its start, and as whom it is asked when no other is named.
READY_USER = "alice"


@attrs.frozen
class Text:
    """The parts of a command's help; {program} stands for the name of the program."""

    usage: str
    description: str
    more: str = ""
    formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter


COMMAND_TEXTS = {
    "serve": Text(
        "[serve] [OPTION ...]",
        "Serve (the default), run a worker, check kinds, make a token, see to the queue, "
        "submit a task, watch it, or notify a user.",
        "Commands: {program} [serve] [--kinds MODULE,...], {program} worker --kinds MODULE,... "
        "--handler MODULE:FUNCTION --concurrency N, {program} check MODULE ..., "
        "{program} token --user U [--scope S ...] [--topic PATTERN ...] [--kind PATTERN ...] "
        "[--ttl SECONDS], "
        "{program} queue ACTION, {program} submit KIND [JSON], {program} watch ID, "
        "{program} notify USER TITLE, {program} --version. "
        "{program} COMMAND --help says more of each. ",
    ),
    "worker": Text("worker [OPTION ...]", "Run tasks until SIGTERM or SIGINT."),
    "check": Text("check MODULE ... [OPTION ...]", "Say what is wrong with modules of kinds."),
    "token": Text("token --user U [OPTION ...]", "Print a token."),
    "queue": Text(
        "queue ACTION [NAME ...] [OPTION ...]",
        "See to the queue. Actions:\n\n"
        + "".join(f"  {name:<8} {action.purpose}\n" for name, action in ACTIONS.items())
        + "\n{program} queue ACTION --help shows what an action takes.",
        formatter=argparse.RawDescriptionHelpFormatter,
    ),
    "submit": Text(
        "submit KIND [JSON] [OPTION ...]",
        "Submit a task to a running server, and print its id. JSON has the parameters of the task; "
        "- reads them from the standard input.",
    ),
    "watch": Text(
        "watch ID [OPTION ...]",
        "Show the steps of a task until it ends, or how many tasks of a batch are done. Exit with "
        "0 when it is completed, with 1 when it failed or was cancelled.",
    ),
    "why": Text(
        "why ID [OPTION ...]",
        "Say why a task is where it is, or why its user has not heard of its end, and all that has "
        "happened to it, in order.",
    ),
    "notify": Text(
        "notify USER TITLE [TEXT] [OPTION ...]",
        "Send a notification to a user, and print its id.",
    ),
}


def parse(program: Program, name: str, arguments: list[str]) -> tuple[argparse.Namespace, Settings]:
    """Read the arguments of a command. Raise TsError, ValueError, FileNotFoundError; exit for help.

    The options have the `program` and the `arguments` too.
    """
    # The help of an action is shown when all is read.
    own = argparse.ArgumentParser(add_help=name != "queue")
    _add_own_options(program, own, name)
    parser, merged = _parser_of(program, name, own, COMMAND_TEXTS[name])
    # Names may stand before options and behind them.
    options = parser.parse_intermixed_args(arguments)
    if name == "queue" and (options.help or options.action is None):
        _show_actions(program, options)
    options.program, options.arguments = program, arguments
    settings = namespace2settings(Settings, options, merged_settings=merged, converter=converter())
    return options, settings


def _parser_of(
    program: Program, name: str, own: argparse.ArgumentParser, text: Text
) -> tuple[argparse.ArgumentParser, MergedSettings]:
    """Return a parser of a command's own options, and behind them of the settings."""
    more, description = (
        one.replace("{program}", program.name) for one in (text.more, text.description)
    )
    parser, merged = make_parser(
        Settings,
        loaders(),
        converter=converter(),
        prog=f"{program.name} {name}",
        usage=f"{program.name} {text.usage}",
        description=description,
        epilog=f"{more}A setting is also read from {ENV_PREFIX}NAME and from the TOML file "
        f"{CONFIG_VARIABLE}.",
        allow_abbrev=False,
        conflict_handler="resolve",
        add_help=False,
        formatter_class=text.formatter,
        parents=[own],
    )
    parser.error = partial(_usage_error, program)  # type: ignore[method-assign]
    if name == "worker":
        # The setting of this name is the server's.
        parser.add_argument(
            "--processes",
            action="store_true",
            dest="process_a_task",
            help="a process for each task",
        )
    return parser, merged


def _add_own_options(program: Program, own: argparse.ArgumentParser, name: str) -> None:
    if name == "serve":
        # Which of several it is; the one that starts them says so.
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
        own.add_argument("--help", "-h", action="store_true")
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


def _show_actions(program: Program, options: argparse.Namespace) -> NoReturn:
    """Print the actions, or all of one that is named, and exit."""
    if not options.help:
        _usage_error(program, f"name an action: {', '.join(ACTIONS)}")
    own = argparse.ArgumentParser(add_help=False)
    text = COMMAND_TEXTS["queue"]
    if options.action is not None:
        action = ACTIONS[options.action]
        _add_queue_options(own, action.options)
        usage = " ".join(filter(None, ["queue", options.action, action.names, "[OPTION ...]"]))
        text = Text(usage, f"{action.purpose[0].upper()}{action.purpose[1:]}.")
    say(_parser_of(program, "queue", own, text)[0].format_help().rstrip())
    sys.exit(0)


def _usage_error(program: Program, message: str) -> NoReturn:
    program.complain(message)
    sys.exit(BAD_SETTING)
