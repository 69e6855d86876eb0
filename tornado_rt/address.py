"""The address at which a server listens."""

import socket

from tornado.netutil import bind_sockets


class CannotListen(OSError):
    """The address is not one of this machine, or another server has it; the message says which."""


def bind_address(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return sockets that listen at every address of the host. Raise CannotListen."""
    try:
        return bind_sockets(port, host, reuse_port=reuse_port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except ValueError:
        reason = "no host has such a name"
    raise CannotListen(f"cannot listen at {host!r}, port {port}: {reason}")
