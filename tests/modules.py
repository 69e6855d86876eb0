"""Modules of kinds that a test writes."""

from collections.abc import Callable
from pathlib import Path

# Writes a module in the current folder: its name and its source.
Write = Callable[[str, str], Path]

GOOD = """
import attrs
from tornado_rt.work import Kind

@attrs.frozen
class Params:
    n: int = 1

kind = Kind("{name}", Params)

@kind.handler
def run(params, run):
    return None
"""
