"""The commands that ask a running server over HTTP: submit, watch and notify."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from rich.console import Console

from services.console import CommandFault
from services.queue import TaskState
from settings import Settings, asked_server
from tornado_rt.app import url_of
from tornado_rt.auth import make_token
from tornado_rt.command.client import BadAddress, NotAnswered, Remote
from tornado_rt.command.drawing import board_of, foreseen_lines
from tornado_rt.command.program import say
from tornado_rt.command.verbs import FAILED
from tornado_rt.data_folder import SECRET_FILE
from tornado_rt.secret import load_secret
from tornado_rt_client import verbs
from tornado_rt_client.events import BatchFinished, Event, Finished
from tornado_rt_client.request import Request

TOKEN_SECONDS = 3600.0
PUBLISH = "rt:publish"
ADMIN = "rt:admin"
# The address to ask a server at that listens at all addresses.
NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NoToken(Exception):
    """There is no token to ask with; the message says how to give one."""


def submit(settings: Settings, options: argparse.Namespace) -> int:
    """Submit a task, print its id, and watch it if that is asked for; or say when it would end."""
    more = {
        "label": options.label,
        "priority": options.priority,
        "key": options.key,
        "tags": options.tag,
        "delay": options.delay,
    }
    params = _params(options.params)
    remote = remote_of(settings, options)
    if options.dry_run:
        estimate = asyncio.run(
            remote.send(verbs.estimate(options.kind, params, _given(more), None))
        )
        say("\n".join(foreseen_lines(estimate)))
        return 0
    # With a key that is the same in each attempt: a lost answer makes no second task.
    request = verbs.submit(options.kind, params, _given(more), None)
    return asyncio.run(_submit(remote, request, watched=options.watch))


def watch(settings: Settings, options: argparse.Namespace) -> int:
    """Show a task or batch until it ends; return 0 when it is completed."""
    return asyncio.run(_watch(remote_of(settings, options, ADMIN), options.id))


def notify(settings: Settings, options: argparse.Namespace) -> int:
    """Send a notification and print its id."""
    fields = {
        "title": options.title,
        "content": options.text,
        "type": options.type,
        "severity": options.severity,
        "link": options.link,
    }
    remote = remote_of(settings, options, PUBLISH)
    say(asyncio.run(remote.send(verbs.notify(options.to, _given(fields), None))).id)
    return 0


async def _submit(remote: Remote, request: Request[str], *, watched: bool) -> int:
    task_id = await remote.send(request)
    say(task_id)
    return await _watch(remote, task_id) if watched else 0


async def _watch(remote: Remote, id_: str) -> int:
    with board_of(Console(soft_wrap=True, highlight=False), remote.clock) as board:
        async with contextlib.aclosing(_events(remote, id_)) as events:
            async for event in events:
                board.show(event)
                if isinstance(event, Finished | BatchFinished):
                    return 0 if event.status == TaskState.COMPLETED else FAILED
    return FAILED


async def _events(remote: Remote, id_: str) -> AsyncGenerator[Event, None]:
    """Yield the events of the task of this id, or else of the batch."""
    try:
        async with contextlib.aclosing(remote.follow(verbs.watch_task(id_))) as of_task:
            async for event in of_task:
                yield event
        return
    except NotAnswered as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        no_task = error
    try:
        async with contextlib.aclosing(remote.follow(verbs.watch_batch(id_))) as of_batch:
            async for one in of_batch:
                yield one
    except NotAnswered as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise NotAnswered(f"{no_task}, and no batch", error.status) from None


def _params(text: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise CommandFault(f"the parameters are not JSON: {error}") from None


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def remote_of(settings: Settings, options: argparse.Namespace, *scopes: str) -> Remote:
    """Return the server that is asked, with the token that is given, or one with these scopes."""
    url, token = asked_server()
    given = (options.token or token).strip()
    if not given.isascii() or not given.isprintable():
        raise NoToken("token: it is none: it has characters that no token has")
    return Remote(
        options.url or url or _own_url(settings),
        (lambda: given) if given else _maker(settings, options.user, list(scopes)),
    )


def _own_url(settings: Settings) -> str:
    if not settings.server.port:
        raise BadAddress("url: name the address of the server: port 0 is any port")
    near = settings.changed(host=NEAR.get(settings.server.host, settings.server.host))
    return url_of(near, settings.server.port)


def _maker(settings: Settings, user: str, scopes: list[str]) -> Callable[[], str]:
    """Return what makes tokens, with the secret of the settings or of the data folder."""
    own = not (
        settings.auth.jwt_secret or settings.auth.jwt_public_key or settings.auth.jwt_jwks_url
    )
    if own and not (settings.server.data_dir / SECRET_FILE).exists():
        # A secret that is made here would be of no server.
        raise NoToken(
            f"there is no secret in {settings.server.data_dir}: name the server's folder by "
            "RT_DATA_DIR, or give a token by --token or RT_TOKEN"
        )
    secret, _ = load_secret(settings)
    if not secret:
        raise NoToken("tokens of a public key are made elsewhere: give one by --token or RT_TOKEN")
    make = partial(make_token, settings, secret, user, scopes, TOKEN_SECONDS)
    # A bad name of a user is told now.
    make()
    return lambda: make()[0]
