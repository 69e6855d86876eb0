"""The address at which a server listens."""

import errno
import socket

from tornado.netutil import bind_sockets

# The port is another's, or only root's.
PORT_FAULTS = (errno.EADDRINUSE, errno.EACCES)


class CannotListen(OSError):
    """The address is not one of this machine, or another server has it; the message says which."""


def check_address(host: str, port: int, setting: str = "port") -> None:
    """Raise CannotListen when one cannot listen there now. `setting` is what names the port."""
    for sock in bind_address(host, port, setting=setting):
        sock.close()


def bind_address(
    host: str, port: int, *, reuse_port: bool = False, setting: str = "port"
) -> list[socket.socket]:
    """Return sockets that listen at every address of the host. Raise CannotListen."""
    try:
        return bind_sockets(port, host, reuse_port=reuse_port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in PORT_FAULTS:
            raise CannotListen(f"{setting}: {port} at {host}: {reason}") from None
    except ValueError:
        reason = "no host has such a name"
    raise CannotListen(f"host: cannot listen at {host!r}: {reason}")
