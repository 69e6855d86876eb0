"""The command `why`: asks a running server why a task is where it is."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from services.why.words import STATES
from settings import Settings
from tornado_rt.command.program import say
from tornado_rt.command.remote import ADMIN, remote_of
from tornado_rt.locales import ENGLISH, Words, built_in_languages
from tornado_rt.work.texts import Text, phrase
from tornado_rt_client import verbs
from tornado_rt_client.records import Why


def why(settings: Settings, options: argparse.Namespace) -> int:
    """Say why a task is where it is, and print all that has happened to it.

    It is said in the language of the terminal, if there is one of the catalogue.
    """
    words = _words()
    request = attrs.evolve(verbs.why_task(options.id), params={"locale": words.tag})
    found = asyncio.run(remote_of(settings, options, ADMIN).send(request))
    told = "\n".join(_lines(found, words))
    say(json.dumps(found.data, ensure_ascii=False) if options.json else told)
    return 0


def _words() -> Words:
    """Return the language that LC_ALL, LC_MESSAGES or LANG names, English without one."""
    # Here, since every command loads this module.
    from babel import default_locale

    named = default_locale("LC_MESSAGES") or ""
    return built_in_languages().find([named.replace("_", "-")]) or ENGLISH


def _lines(found: Why, words: Words) -> Iterator[str]:
    status = Text(STATES.get(found.status, found.status))
    about = {"task_id": found.task_id, "status": status, "cause": found.cause["text"]}
    yield words.say(phrase("{task_id} is {status}: {cause}", **about))
    if found.heard is not None and found.heard != found.cause:
        yield words.say(phrase("Of its end: {heard}", heard=found.heard["text"]))
    yield ""
    for one in found.chain:
        yield f"{_clock(one)}  {one['text']}"


def _clock(entry: Mapping[str, Any]) -> str:
    """Return a time by the clock of this machine."""
    moment = datetime.fromisoformat(entry["at"]).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
