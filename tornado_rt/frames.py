"""The frames that a client sends (RFC 6455 section 5, RFC 7692), read as they come."""

import struct
from collections.abc import Iterator
from enum import IntEnum

from tornado_rt.deflate import Inflater, TooLarge
from tornado_rt.protocol import CloseCode

FIN, COMPRESSED, RESERVED = 0x80, 0x40, 0x30
MASKED = 0x80
CONTROL = 0x8
MAX_CONTROL_BYTES = 125
# Close codes that may stand on the wire (section 7.4), besides 3000 to 4999.
SENT_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class BadFrame(Exception):
    """The client broke the protocol; `code` says how."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.name.lower())
        self.code = code


class FrameReader:
    """Puts frames together; a message has at most `most` bytes, also when it is inflated.

    Without an inflater no message may be compressed.
    """

    __slots__ = ("_compressed", "_data", "_inflater", "_most", "_opcode", "_parts")

    def __init__(self, most: int, inflater: Inflater | None = None) -> None:
        self._most = most
        self._inflater = inflater
        # What came of a frame that is not whole.
        self._data = b""
        # The frames of a message that is not whole, its opcode and whether it is compressed.
        self._parts: list[bytes] | None = None
        self._opcode = Opcode.TEXT
        self._compressed = False

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Yield each message and control frame that is whole now. Raise BadFrame."""
        self._data += data
        while (frame := self._next()) is not None:
            first, payload = frame
            if first & CONTROL:
                yield _control(first, payload)
            elif (message := self._put_together(first, payload)) is not None:
                yield message

    def _next(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        first, second = data[0], data[1]
        if not second & MASKED or first & RESERVED:
            raise BadFrame(CloseCode.PROTOCOL_ERROR)
        start, size = 2, second & ~MASKED
        if size == 126:
            start, size = 4, int.from_bytes(data[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(data[2:10], "big")
        if len(data) < start:
            return None
        if size > self._most:
            raise BadFrame(CloseCode.TOO_LARGE)
        end = start + 4 + size
        if len(data) < end:
            return None
        self._data = data[end:]
        return first, _unmask(data[start : start + 4], data[start + 4 : end])

    def _put_together(self, first: int, payload: bytes) -> tuple[Opcode, bytes] | None:
        opcode = first & 0x0F
        begins = opcode in (Opcode.TEXT, Opcode.BINARY)
        compressed = bool(first & COMPRESSED)
        if begins == (self._parts is not None) or not (begins or opcode == 0):
            raise BadFrame(CloseCode.PROTOCOL_ERROR)
        if compressed and not (begins and self._inflater):
            raise BadFrame(CloseCode.PROTOCOL_ERROR)
        if begins:
            self._parts, self._opcode, self._compressed = [], Opcode(opcode), compressed
        assert self._parts is not None
        self._parts.append(payload)
        if sum(map(len, self._parts)) > self._most:
            raise BadFrame(CloseCode.TOO_LARGE)
        if not first & FIN:
            return None
        whole, self._parts = b"".join(self._parts), None
        return self._opcode, self._inflate(whole) if self._compressed else whole

    def _inflate(self, data: bytes) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.inflate(data, self._most)
        except TooLarge:
            raise BadFrame(CloseCode.TOO_LARGE) from None
        except ValueError:
            raise BadFrame(CloseCode.BAD_DATA) from None


def control_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    """Return a control frame of the server."""
    return struct.pack("!BB", FIN | opcode, len(payload)) + payload


def close_frame(code: CloseCode) -> bytes:
    """Return a close frame with the code and its name."""
    return control_frame(Opcode.CLOSE, struct.pack("!H", code) + code.name.lower().encode())


def _control(first: int, payload: bytes) -> tuple[Opcode, bytes]:
    try:
        opcode = Opcode(first & 0x0F)
    except ValueError:
        raise BadFrame(CloseCode.PROTOCOL_ERROR) from None
    whole = first & FIN and not first & COMPRESSED and len(payload) <= MAX_CONTROL_BYTES
    if not whole or (opcode is Opcode.CLOSE and not _may_close(payload)):
        raise BadFrame(CloseCode.PROTOCOL_ERROR)
    return opcode, payload


def _may_close(payload: bytes) -> bool:
    if len(payload) < 2:
        return not payload
    code = int.from_bytes(payload[:2], "big")
    return code in SENT_CODES or 3000 <= code < 5000


def _unmask(mask: bytes, payload: bytes) -> bytes:
    # As one number, which is XORed in C.
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
