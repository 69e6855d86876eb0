"""Keeps from a forked child what must stay ours: locks, sockets, signal handlers.

A handler may call `os.fork`, or start a pool of processes that forks. A child has a copy of every
descriptor that we have open: with the lock a restart is refused while it lives, with a client's
socket the client is not told that we are gone, and a signal that is sent to it wakes our loop.
So each child replaces what stands here by `/dev/null`, before it runs anything of its own.
Programs that are executed get no descriptor that we do not hand them.

A signal that comes to a child before it has taken back our handlers waits until then: a pool that
ends a process which it has just started would else wait for it for ever.
"""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

_guarded: set[int] = set()
# Where we listen: what was accepted there has the same port.
_ports: set[int] = set()
_loops: dict[asyncio.AbstractEventLoop, Callable[[], Iterable[int]]] = {}
# By the thread that forks: what its child keeps on purpose.
_spared: dict[int, frozenset[int]] = {}
_callbacks: list[Callable[[], None]] = []
# Those for which we have handlers.
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
INTERNET = {socket.AF_INET, socket.AF_INET6}
# The signals that each forking thread had blocked before.
_blocked = threading.local()


def guard(descriptor: int) -> None:
    """Keep a descriptor from forked children, until `close`."""
    _guarded.add(descriptor)


def close(descriptor: int) -> None:
    """Close a guarded descriptor."""
    _guarded.discard(descriptor)
    os.close(descriptor)


@contextlib.contextmanager
def loop_guarded(more: Callable[[], Iterable[int]] = tuple) -> Iterator[None]:
    """Keep what the running loop reads and writes from forked children, until the block ends.

    And what `more` returns: descriptors that the loop does not read just now.
    """
    loop = asyncio.get_running_loop()
    _loops[loop] = more
    try:
        yield
    finally:
        _loops.pop(loop, None)


@contextlib.contextmanager
def ports_guarded(listening: Sequence[socket.socket]) -> Iterator[None]:
    """Keep these sockets, and all that they accept, from forked children, until the block ends.

    Nothing has to be noted for each connection. One that is not read just now is in no loop.
    """
    ports = {one.getsockname()[1] for one in listening}
    _ports.update(ports)
    try:
        yield
    finally:
        _ports.difference_update(ports)


@contextlib.contextmanager
def sparing(descriptors: Sequence[int]) -> Iterator[None]:
    """Let the children that this thread forks in the block keep these."""
    thread = threading.get_ident()
    _spared[thread] = frozenset(descriptors)
    try:
        yield
    finally:
        _spared.pop(thread, None)


@contextlib.contextmanager
def calling(callback: Callable[[], None]) -> Iterator[None]:
    """Call this in each child that is forked in the block."""
    call_in_children(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def call_in_children(callback: Callable[[], None]) -> None:
    """Call this in each child that is forked from now on."""
    _callbacks.append(callback)


def end_if_forked(process: int) -> None:
    """End this process unless its id is `process`: a copy has nothing to do where we go on."""
    if os.getpid() != process:
        os._exit(0)


def _begin_child() -> None:
    try:
        _leave_all()
    finally:
        _take_signals()


def _leave_all() -> None:
    spared = _spared.get(threading.get_ident(), frozenset())
    found = {*_guarded, *(fd for loop, more in _loops.items() for fd in _of_loop(loop, more))}
    found.update(_of_ports())
    _replace(found - spared)
    callbacks = list(_callbacks)
    for kept in (_guarded, _ports, _loops, _callbacks, _spared):
        kept.clear()
    for callback in callbacks:
        callback()


def _hold_signals() -> None:
    _blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _take_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _blocked.before)


def _of_loop(loop: asyncio.AbstractEventLoop, more: Callable[[], Iterable[int]]) -> Iterator[int]:
    yield from more()
    selector = getattr(loop, "_selector", None)
    if selector is not None:
        yield from selector.get_map() or ()
        with contextlib.suppress(AttributeError, ValueError):
            yield selector.fileno()


def _of_ports() -> Iterator[int]:
    if not _ports:
        return
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            if name.isdecimal() and _port_of(int(name)) in _ports:
                yield int(name)


def _port_of(descriptor: int) -> int | None:
    try:
        opened = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        return int(opened.getsockname()[1]) if opened.family in INTERNET else None
    except OSError:
        return None
    finally:
        opened.detach()


def _replace(descriptors: set[int]) -> None:
    """Put `/dev/null` in their place: their owners may still close their numbers."""
    if not descriptors:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        null = -1
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if null < 0:
                os.close(descriptor)
            else:
                os.dup2(null, descriptor, inheritable=False)
    if null >= 0:
        os.close(null)


os.register_at_fork(
    before=_hold_signals, after_in_parent=_take_signals, after_in_child=_begin_child
)
