"""Files and texts that a setting names, read once at the start."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from tornado_rt.bounds import OutOfBounds
from tornado_rt.json_body import parse, structure
from tornado_rt.problems import Problem
from tornado_rt.work import clean_line

T = TypeVar("T")

SHOWN_FAULT = 1000


class BadSetting(OutOfBounds):
    """A setting cannot be used; the message names it, the place in it, and the reason."""

    def __init__(self, setting: str, place: object, reason: object) -> None:
        where = f"{setting}: {place}: " if place else f"{setting}: "
        super().__init__(clean_line(f"{where}{reason}", SHOWN_FAULT))


def read_toml(setting: str, path: Path) -> dict[str, Any]:
    """Return what a TOML file says. Raise BadSetting."""
    content = read_file(setting, path)
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:
        # Also of bytes that are no UTF-8.
        raise BadSetting(setting, path, f"is not TOML: {error}") from None


def read_json(setting: str, place: object, text: bytes) -> Any:
    """Return what JSON text says. Raise BadSetting."""
    try:
        return parse(text)
    except Problem as error:
        words = error.detail.replace("the body is", "is").replace("the body holds", "holds")
        raise BadSetting(setting, place, words) from None


def read_into(setting: str, place: object, value: Any, shape: type[T]) -> T:
    """Read a part of a setting into an attrs class. Raise BadSetting."""
    try:
        return structure(value, shape)
    except Problem as error:
        faults = [one.replace("the body", "it", 1) for one in error.errors or [error.detail]]
        raise BadSetting(setting, place, "; ".join(faults)) from None


def read_file(setting: str, path: Path) -> bytes:
    """Return what a file holds. Raise BadSetting."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSetting(setting, path, (error.strerror or "").lower()) from None
