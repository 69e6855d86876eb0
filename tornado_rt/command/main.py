"""Runs one command, and says in one line why it cannot be run."""

import difflib
import logging
import re

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from typed_settings.exceptions import TsError

from services.console import CommandFault
from services.kinds import KindError
from services.operating import KindNotFound
from services.queue import LimitsRefused, NotPurged, QueueError
from services.worker import HandlerError
from settings import Settings, unknown_variables
from tornado_rt.address import CannotListen
from tornado_rt.backplane import BackplaneDown
from tornado_rt.bounds import OutOfBounds
from tornado_rt.children import DidNotStart
from tornado_rt.command.client import BadAddress, NotAnswered
from tornado_rt.command.parsing import BAD_SETTING, parse
from tornado_rt.command.program import Program
from tornado_rt.command.remote import NoToken, notify, submit, watch
from tornado_rt.command.verbs import FAILED, Verb, check, queue, serve, token, work
from tornado_rt.command.why import why
from tornado_rt.data_folder import BadFolder
from tornado_rt.demo import is_loopback
from tornado_rt.garbage import collect_seldom
from tornado_rt.logs import configure_logging
from tornado_rt.mongo import BadMongodbUrl, leave_threads
from tornado_rt.redis import BadRedisUrl
from tornado_rt.secret import SecretError
from tornado_rt.stores import StoreError
from tornado_rt.tracing import TracesUnavailable

log = structlog.get_logger(__name__)

INTERRUPTED = 130
COMMANDS: dict[str, Verb] = {
    "serve": serve,
    "worker": work,
    "check": check,
    "token": token,
    "queue": queue,
    "submit": submit,
    "watch": watch,
    "why": why,
    "notify": notify,
}


def main(arguments: list[str], program: Program) -> int:
    """Run one command; return the exit status."""
    collect_seldom()
    leave_threads()
    # Its errors come to us as exceptions; it would print each a second time.
    logging.getLogger("typed_settings").setLevel(logging.CRITICAL)
    try:
        name, rest = _command(arguments)
        options, settings = parse(program, name, rest)
    except (TsError, ValueError, FileNotFoundError) as error:
        program.complain(_one_line(error))
        return BAD_SETTING
    # A handler may change the current folder.
    settings = settings.changed(data_dir=settings.server.data_dir.absolute())
    configure_logging(settings.server.log_level)
    if getattr(options, "process", None) is None:
        # One of several processes leaves it to the first.
        _warn(name, settings)
    try:
        return COMMANDS[name](settings, options)
    except (
        *(SecretError, HandlerError, BadRedisUrl, BadMongodbUrl, OutOfBounds),
        *(CommandFault, LimitsRefused, NotPurged, BadAddress, NoToken, BadFolder, CannotListen),
        TracesUnavailable,
    ) as error:
        program.complain(error)
        return BAD_SETTING
    except KindError as error:
        program.complain(f"kinds: {error}")
        return BAD_SETTING
    except DidNotStart as error:
        if error.exit_code is None:
            program.complain(error)
        # Else it has said why itself.
        return max(error.exit_code or 0, FAILED)
    except (StoreError, QueueError, KindNotFound, NotAnswered, OSError) as error:
        program.complain(error)
        return FAILED
    except (RedisError, PyMongoError, BackplaneDown) as error:
        reason = str(error).partition(", Timeout")[0]
        program.complain(f"a store does not answer: {reason}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the name of a command and its arguments. Raise ValueError for none of ours."""
    if not arguments or arguments[0].startswith("-"):
        return "serve", arguments
    name = arguments[0]
    if name not in COMMANDS:
        meant = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(COMMANDS)}"
        raise ValueError(f"there is no command {name[:100]}: {hint}")
    return name, arguments[1:]


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


def _warn(command: str, settings: Settings) -> None:
    """Say what is allowed and likely a mistake."""
    for variable, meant in unknown_variables().items():
        log.warning("unknown_setting", variable=variable, meant=meant or None)
    own_secret = not (
        settings.auth.jwt_secret or settings.auth.jwt_public_key or settings.auth.jwt_jwks_url
    )
    if command == "serve" and own_secret and not is_loopback(settings.server.host):
        log.warning(
            "own_secret_beyond_this_machine",
            host=settings.server.host,
            advice="others can reach this server: set jwt_secret, jwt_public_key or jwt_jwks_url",
        )
