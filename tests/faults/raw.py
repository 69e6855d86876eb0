"""Sockets that misbehave: they vanish without a word, or reset."""

import ctypes
import socket
import struct
from typing import Any

# A socket option of Linux that Python does not name.
SO_ATTACH_FILTER = 26


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    )


def vanish(sock: Any) -> None:
    """Drop every packet that comes from now on, as a cut cable does: nothing is acknowledged."""
    # A classic BPF program of one instruction: return 0, keep no byte (socket(7)).
    program = (_Instruction * 1)(_Instruction(0x06, 0, 0, 0))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
    )


def reset_at_close(sock: Any) -> None:
    """Have the next close send RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
