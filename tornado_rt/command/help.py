"""The help of a command: its own options first, then the settings that matter to it, in groups.

The help of the program has its commands on top and every setting below, as docs/settings.md groups
them.
"""

import argparse
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, groups, load_settings
from tornado_rt.command.program import Program

TYPES = {int: "INT", float: "NUMBER", Path: "PATH", list[str]: "TEXT,..."}
TRUTH = {True: "true", False: "false"}
# Shown in place of a secret.
HIDDEN = "***"

# Settings that a command reads to find the queue, or a server and a token for it.
QUEUE_SETTINGS = ("data_dir", "redis_url", "queue_name", "log_level")
ASKING_SETTINGS = ("host", "port", "prefix", "data_dir", "jwt_secret", "log_level")


@attrs.frozen
class HelpText:
    """The parts of a command's help; {program} stands for the name of the program.

    `settings`: those that matter to it, "" for all.
    """

    usage: str
    description: str
    settings: tuple[str, ...] = ASKING_SETTINGS
    formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter

    @property
    def purpose(self) -> str:
        """The first sentence."""
        return self.description.partition(". ")[0].rstrip(".")


def help_of(
    program: Program,
    name: str,
    own: argparse.ArgumentParser,
    text: HelpText,
    commands: Mapping[str, HelpText],
) -> str:
    """Return the help of a command; `own` has its options. `commands` stand on top, if any."""
    shown = argparse.ArgumentParser(
        prog=f"{program.name} {name}",
        usage=f"{program.name} {text.usage}",
        description=_described(text, commands).replace("{program}", program.name),
        epilog=_end(program, text),
        add_help=False,
        # An own option goes before a setting of its name.
        conflict_handler="resolve",
        formatter_class=argparse.RawDescriptionHelpFormatter if commands else text.formatter,
        parents=[own],
    )
    _add_settings(shown, own, text.settings)
    return shown.format_help().rstrip()


def _described(text: HelpText, commands: Mapping[str, HelpText]) -> str:
    if not commands:
        return text.description
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {one.purpose}" for name, one in commands.items()]
    more = "{program} COMMAND --help says more of each."
    return "\n".join([text.description, "", "commands:", *lines, "", more])


def _end(program: Program, text: HelpText) -> str:
    source = (
        f"A setting comes from its option, else from its {ENV_PREFIX} variable, else from the TOML "
        f"file {CONFIG_VARIABLE}."
    )
    if not text.settings:
        return source
    return f"{source} {program.name} --help lists all settings; each may be given here too."


def _add_settings(
    shown: argparse.ArgumentParser, own: argparse.ArgumentParser, names: Iterable[str]
) -> None:
    """Add the settings of these names, or all, by their groups."""
    present = _present()
    taken = {option for action in own._actions for option in action.option_strings}
    for group in groups().values():
        fields = [
            field
            for field in attrs.fields(group)
            if (not names or field.name in names) and _option(field.name) not in taken
        ]
        if fields:
            section = shown.add_argument_group(f"settings: {group.title}")
            for field in fields:
                section.add_argument(
                    _option(field.name), **_form(field), help=_help(field, present)
                )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _form(field: Any) -> dict[str, Any]:
    if field.type is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if issubclass(kind := field.type if isinstance(field.type, type) else object, StrEnum):
        return {"metavar": "|".join(kind)}
    return {"metavar": TYPES.get(field.type, "TEXT")}


def _help(field: Any, present: Settings) -> str:
    words = [field.metadata["typed-settings"]["help"], f"({ENV_PREFIX}{field.name.upper()})"]
    default, value = field.default, present.value(field.name)
    if shown := _shown(default):
        words.append(f"[default: {shown}]")
    if value != default:
        # A secret has an own `repr`.
        words.append(f"[now: {_shown(value) if field.repr is True else HIDDEN}]")
    return " ".join(words).replace("%", "%%")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return TRUTH[value]
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _present() -> Settings:
    """Return the settings as they are, or their defaults when something is wrong with them."""
    try:
        return load_settings()
    except (ExceptionGroup, ValueError, FileNotFoundError):
        return Settings()
