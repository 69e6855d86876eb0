"""The commands that work on this machine: serve, run tasks, make a token, see to the queue."""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from rich.console import Console

from services.analysis.words import EXAMPLE_BODY
from services.checking import WARNING, check_kinds
from services.console import AskedAction, check_asked, run_noted
from settings import Settings, stop_seconds
from tornado_rt.app import open_queue, running_server, running_worker, url_of
from tornado_rt.auth import PATTERN_LENGTH, TokenVerifier, make_token
from tornado_rt.bounds import check_name
from tornado_rt.children import STOP_SECONDS
from tornado_rt.command.parsing import BAD_SETTING, QUEUE_OPTIONS, READY_USER
from tornado_rt.command.program import say
from tornado_rt.data_folder import SECRET_FILE
from tornado_rt.demo import demo_refusal
from tornado_rt.lifetime import run_until_stopped
from tornado_rt.processes import running_processes
from tornado_rt.secret import load_secret

FAILED = 1
READY_TOKEN_SECONDS = 12 * 3600.0
SCOPE_LENGTH = 255

Verb = Callable[[Settings, argparse.Namespace], int]


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    if settings.server.processes > 1 and options.process is None:
        command = [*options.program.command, "serve", *options.arguments]
        seconds = stop_seconds(settings) + STOP_SECONDS
        run_until_stopped(_serving_in_processes(settings, command), seconds)
    else:
        run_until_stopped(_serving(settings, options.process), stop_seconds(settings))
    return 0


def work(settings: Settings, options: argparse.Namespace) -> int:
    """Run tasks until SIGTERM or SIGINT."""
    own = settings.workers
    chosen = settings.changed(
        worker_handler=own.worker_handler if options.handler is None else options.handler,
        worker_concurrency=options.concurrency or own.worker_concurrency,
        worker_processes=options.process_per_task or own.worker_processes,
    )
    if not chosen.workers.worker_concurrency:
        options.program.complain("concurrency: must be 1 or more")
        return BAD_SETTING
    if not (chosen.workers.kinds or chosen.workers.worker_handler):
        options.program.complain(
            "kinds: there is nothing to run: name modules of kinds, or a handler"
        )
        return BAD_SETTING
    run_until_stopped(running_worker(chosen), chosen.workers.worker_grace_seconds)
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
    for kind in options.kind:
        check_name("kind", kind, PATTERN_LENGTH)
    if not secret:
        options.program.complain("jwt_secret: tokens of a public key are made elsewhere")
        return BAD_SETTING
    made, _ = make_token(
        settings,
        secret,
        options.user,
        options.scope,
        options.ttl,
        options.topic,
        options.kind,
    )
    say(made)
    return 0


def check(settings: Settings, options: argparse.Namespace) -> int:
    """Say what is wrong with modules of kinds."""
    # Read as the setting is, so that a start says the same.
    settings = settings.changed(kinds=options.module)
    if not settings.workers.kinds:
        options.program.complain("check: name a module")
        return BAD_SETTING
    sound, faults = check_kinds(*settings.workers.kinds, settings=settings)
    for fault in faults:
        say(fault)
    for module, count in sound.items():
        say(f"{module}: {count} {'kind' if count == 1 else 'kinds'}, nothing wrong")
    return FAILED if any(not fault.startswith(WARNING) for fault in faults) else 0


def queue(settings: Settings, options: argparse.Namespace) -> int:
    """Show, retry, discard or purge tasks, pause kinds, move limits, or check the queue."""
    return asyncio.run(_on_queue(settings, options))


async def _on_queue(settings: Settings, options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in QUEUE_OPTIONS}
    asked = AskedAction(options.names, **given)
    check_asked(options.action, asked)
    async with open_queue(settings) as (service, log):
        told = await run_noted(service, log.note, options.action, asked)
    for line in told.lines:
        say(line)
    for note in told.notes:
        options.program.complain(note)
    return FAILED if told.failed else 0


@contextlib.asynccontextmanager
async def _serving(settings: Settings, process: int | None) -> AsyncIterator[None]:
    async with running_server(settings, process) as server:
        if process is None:
            _announce_to_whoever_reads(settings, server.url)
        yield


@contextlib.asynccontextmanager
async def _serving_in_processes(settings: Settings, command: Sequence[str]) -> AsyncIterator[None]:
    async with running_processes(settings, command) as port:
        _announce_to_whoever_reads(settings, url_of(settings, port))
        yield


def _announce_to_whoever_reads(settings: Settings, url: str) -> None:
    # Rich ends the program when the reader is gone.
    with contextlib.suppress(OSError, ValueError, SystemExit):
        _announce(settings, url)


def _announce(settings: Settings, url: str) -> None:
    console = Console(soft_wrap=True, highlight=False)
    many = f" by {settings.server.processes} processes" if settings.server.processes > 1 else ""
    console.print(f"[bold]tornado_rt[/bold] serves {url}{many}")
    secret, generated = load_secret(settings)
    if generated:
        console.print(
            f"Token secret: made for this server, in {settings.server.data_dir / SECRET_FILE}"
        )
    if off := demo_refusal(settings):
        if settings.auth.demo_login:
            console.print(f"The demo login is off: {off}", markup=False)
        return
    ready, expires_at = make_token(settings, secret, READY_USER, [], READY_TOKEN_SECONDS)
    expiry = time.strftime("%Y-%m-%d %H:%M", time.localtime(expires_at))
    console.print(f"Page:   {url}/")
    console.print(f"Token of {READY_USER} until {expiry}:\n{ready}")
    if settings.workers.worker_handler:
        console.print("Submit a task and watch it:")
        console.print(_curl_line(url, settings.server.prefix, ready), markup=False)


def _curl_line(url: str, prefix: str, ready: str) -> str:
    # Links have the prefix.
    origin = url.removesuffix(prefix)
    return (
        f"TOKEN={ready}\n"
        f'curl -N -H "Authorization: Bearer $TOKEN" {origin}$(curl -s {url}/api/tasks '
        f"-H \"Authorization: Bearer $TOKEN\" -d '{EXAMPLE_BODY}' "
        '| sed \'s/.*"events":"\\([^"]*\\)".*/\\1/\')'
    )
