"""Signals end a forked child from its first moment on, and never its parent in its place."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# The hook that is registered first runs first in a child: before any of ours.
CHILD = """
import os, signal, sys, time

def end():
    os.kill(os.getpid(), {number})

os.register_at_fork(after_in_child=end)

import asyncio
from tornado_rt.work.attempts import fork_guard
{begin}
    pid = os.fork()
    if not pid:
        time.sleep(20)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status), stop_asked())
"""
IN_A_TASK = """
from tornado_rt.work.attempts.cancelling import Cancelling
cancelling = Cancelling()
stop_asked = lambda: False
with cancelling.handler():
"""
IN_A_WORKER = """
from tornado_rt.lifetime import Stop
stop = Stop(asyncio.new_event_loop(), 10)
stop_asked = stop.asked.is_set
with stop.listening():
"""


@pytest.mark.parametrize("begin", [IN_A_TASK, IN_A_WORKER], ids=["task", "worker"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_child_of_a_handler_can_be_ended_at_once(begin: str, number: int) -> None:
    """A pool waits for the end of what it ends; and our own process is not meant."""
    script = CHILD.format(begin=begin.strip(), number=int(number))
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.split(), ended.returncode) == ([str(int(number)), "False"], 0), (
        ended.stderr
    )


def test_child_blocks_no_signal_that_its_parent_did_not() -> None:
    script = """
import os, signal
from tornado_rt.work.attempts import fork_guard

def show(who):
    print(who, sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))), flush=True)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGHUP])
pid = os.fork()
if not pid:
    show("child")
    os._exit(0)
os.waitpid(pid, 0)
show("parent")
"""
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    blocked = sorted([int(signal.SIGHUP), int(signal.SIGUSR1)])
    assert told.stdout.splitlines() == [f"child {blocked}", f"parent {blocked}"]
