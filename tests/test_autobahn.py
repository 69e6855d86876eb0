"""Autobahn's own cases; `make autobahn` runs all of them."""

import subprocess
import sys

from tests.conftest import ROOT


def test_autobahn_finds_nothing_wrong() -> None:
    """With compression off and on, nothing fails, is not strict, or is not implemented."""
    command = [sys.executable, "-m", "tests.long.autobahn", "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compression off: 247 cases, 0 wrong" in done.stdout
    assert "compression on: 247 cases, 0 wrong" in done.stdout
