"""The address at which a server listens."""

import contextlib

import pytest

from tornado_rt.address import CannotListen, bind_address

# Tornado leaves a socket that it cannot bind to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("host", ["\u2028x", "a\0b", " ", "192.0.2.1", "x" * 300, "no host"])
def test_address_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(CannotListen) as refused:
        bind_address(host, 0)
    assert str(refused.value).startswith(f"host: cannot listen at {host!r}: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_port_that_another_has_is_named(host: str) -> None:
    """Also when it would share it."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(one) for one in bind_address(host, 0)]
        port = sockets[0].getsockname()[1]
        with pytest.raises(CannotListen, match=f"^port: {port} at .*: address already in use"):
            bind_address(host, port, reuse_port=True)
