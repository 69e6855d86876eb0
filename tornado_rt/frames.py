"""The frames that a client sends (RFC 6455 section 5, RFC 7692), read as they come.

Errors are found at the earliest byte: in the first bytes of a head, at the first byte of text that
is not UTF-8, or when a head announces a message that is too large. No byte is looked at twice. Only
the bytes of an unfinished message are kept, however many frames bring them.
"""

import codecs
import struct
from enum import IntEnum

from tornado_rt.deflate import Inflater, TooLarge, most_deflated
from tornado_rt.protocol import CloseCode

FIN, COMPRESSED, RESERVED = 0x80, 0x40, 0x30
MASKED = 0x80
CONTROL = 0x8
MASK_BYTES = 4
MAX_CONTROL_BYTES = 125
# Where the payload's size stands when its seven bits do not hold it, and the least that needs that.
WIDE_SIZES = {126: (2, 126), 127: (8, 65536)}
# Close codes that may stand on the wire (section 7.4), besides 3000 to 4999.
SENT_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class Opcode(IntEnum):
    """The kinds of frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


OPCODES = {int(opcode): opcode for opcode in Opcode}
# A frame was read that does not end its message.
PART = (Opcode.CONTINUATION, b"")


class BadFrame(Exception):
    """The client broke the protocol; `code` says how."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.name.lower())
        self.code = code


class FrameReader:
    """Puts frames together; a message has at most `most` bytes, also when it is inflated.

    Without an inflater no message may be compressed. After BadFrame nothing more can be read.
    """

    __slots__ = ("_at", "_data", "_inflater", "_message", "_most")

    def __init__(self, most: int, inflater: Inflater | None = None) -> None:
        self._most = most
        self._inflater = inflater
        # The unread bytes begin at `_at`.
        self._data = b""
        self._at = 0
        # The message that is not whole.
        self._message: _Message | None = None

    def feed(self, data: bytes) -> None:
        """Take more bytes, to be read by `next`."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def next(self) -> tuple[Opcode, bytes] | None:
        """Return the next message, control frame, or `PART`; None: more bytes are needed.

        The text of a message is UTF-8. Raise BadFrame.
        """
        frame = self._next()
        if frame is None:
            self._data, self._at = self._data[self._at :], 0
        return frame

    def _next(self) -> tuple[Opcode, bytes] | None:
        if self._message is not None and self._message.in_frame:
            return self._go_on(self._message)
        head = self._head()
        if head is None:
            return None
        first, start, size = head
        if first & CONTROL or (first & (FIN | COMPRESSED) == FIN and self._message is None):
            if len(self._data) >= start + size:
                return self._whole(OPCODES[first & 0x0F], start, start + size)
            if first & CONTROL:
                return None
        mask = self._data[start - MASK_BYTES : start]
        self._at = start
        if self._message is None:
            inflater = self._inflater if first & COMPRESSED else None
            self._message = _Message(OPCODES[first & 0x0F], self._most, inflater)
        self._message.begin_frame(bool(first & FIN), size, mask)
        return self._go_on(self._message)

    def _head(self) -> tuple[int, int, int] | None:
        """Return the first byte, where the payload begins, and its size; None: not all is here."""
        data, at = self._data, self._at
        here = len(data) - at
        if not here:
            return None
        first = data[at]
        self._check_first(first)
        if here < 2:
            return None
        second = data[at + 1]
        _check_second(first, second)
        size, start = second & ~MASKED, at + 2
        if size in WIDE_SIZES:
            width, least = WIDE_SIZES[size]
            if here < 2 + width:
                return None
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
            # In as few bytes as it takes, and the highest bit is 0.
            _require(least <= size < 2**63)
        if not first & CONTROL:
            self._check_size(first, size)
        start += MASK_BYTES
        return (first, start, size) if len(data) >= start else None

    def _check_first(self, first: int) -> None:
        opcode = OPCODES.get(first & 0x0F)
        _require(opcode is not None and not first & RESERVED)
        if first & CONTROL:
            _require(bool(first & FIN) and not first & COMPRESSED)
            return
        begins = opcode is not Opcode.CONTINUATION
        _require(begins == (self._message is None))
        _require(not first & COMPRESSED or (begins and self._inflater is not None))

    def _check_size(self, first: int, size: int) -> None:
        message = self._message
        compressed = first & COMPRESSED if message is None else message.inflater is not None
        most = most_deflated(self._most) if compressed else self._most
        if size + (0 if message is None else message.size) > most:
            raise BadFrame(CloseCode.TOO_LARGE)

    def _whole(self, opcode: Opcode, start: int, end: int) -> tuple[Opcode, bytes]:
        """Return a control frame, or a message of one frame, that is here from end to end."""
        self._at = end
        payload = unmask(self._data[start - MASK_BYTES : start], self._data[start:end])
        if opcode is Opcode.CLOSE:
            _check_close(payload)
        elif opcode is Opcode.TEXT and _check_text(payload):
            raise BadFrame(CloseCode.BAD_DATA)
        return opcode, payload

    def _go_on(self, message: "_Message") -> tuple[Opcode, bytes] | None:
        piece = self._data[self._at : self._at + message.left]
        self._at += len(piece)
        message.add(piece)
        if message.left:
            return None
        if not message.end_frame():
            return PART
        self._message = None
        return message.opcode, bytes(message.body)


class _Message:
    """A message that is under way, and its frame that is.

    `size` counts the bytes of its frames, `left` those of this frame that have not come.
    """

    __slots__ = (
        "_fin",
        "_mask",
        "_most",
        "_tail",
        "body",
        "in_frame",
        "inflater",
        "left",
        "opcode",
        "size",
    )

    def __init__(self, opcode: Opcode, most: int, inflater: Inflater | None) -> None:
        self.opcode = opcode
        self.inflater = inflater
        self.body = bytearray()
        self.size = 0
        self.left = 0
        self.in_frame = False
        self._most = most
        self._fin = False
        self._mask = b""
        # The begun character at the end of what has come.
        self._tail = b""

    def begin_frame(self, fin: bool, size: int, mask: bytes) -> None:
        self.in_frame = True
        self.size += size
        self.left = size
        self._fin = fin
        self._mask = mask

    def add(self, piece: bytes) -> None:
        """Take the next masked bytes of the frame. Raise BadFrame."""
        if not piece:
            return
        turn = len(piece) % MASK_BYTES
        data = unmask(self._mask, piece)
        self._mask = self._mask[turn:] + self._mask[:turn]
        self.left -= len(piece)
        self._append(data if self.inflater is None else self._inflate(data, end=False))

    def end_frame(self) -> bool:
        """Say whether this was the last frame. Raise BadFrame for a message that is broken off."""
        self.in_frame = False
        if self._fin and self.inflater is not None:
            self._append(self._inflate(b"", end=True))
        if self._fin and self._tail:
            raise BadFrame(CloseCode.BAD_DATA)
        return self._fin

    def _inflate(self, data: bytes, end: bool) -> bytes:
        assert self.inflater is not None
        try:
            return self.inflater.inflate(data, self._most - len(self.body), end=end)
        except TooLarge:
            raise BadFrame(CloseCode.TOO_LARGE) from None
        except ValueError:
            raise BadFrame(CloseCode.BAD_DATA) from None

    def _append(self, data: bytes) -> None:
        self.body += data
        if self.opcode is Opcode.TEXT:
            self._tail = _check_text(self._tail + data)


def control_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    """Return a control frame of the server."""
    return struct.pack("!BB", FIN | opcode, len(payload)) + payload


def close_frame(code: CloseCode) -> bytes:
    """Return a close frame with the code and its name."""
    return control_frame(Opcode.CLOSE, struct.pack("!H", code) + code.name.lower().encode())


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Return the payload without its mask (section 5.3)."""
    # As one number, which is XORed in C.
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _require(allowed: bool) -> None:
    if not allowed:
        raise BadFrame(CloseCode.PROTOCOL_ERROR)


def _check_second(first: int, second: int) -> None:
    _require(bool(second & MASKED))
    size = second & ~MASKED
    if first & CONTROL:
        _require(size <= MAX_CONTROL_BYTES)
        # A close frame has a whole code or none.
        _require(size != 1 or first & 0x0F != Opcode.CLOSE)


def _check_close(payload: bytes) -> None:
    if payload:
        code = int.from_bytes(payload[:2], "big")
        _require(code in SENT_CODES or 3000 <= code < 5000)
        if _check_text(payload[2:]):
            raise BadFrame(CloseCode.BAD_DATA)


def _check_text(text: bytes) -> bytes:
    """Return the begun character at the end of the text. Raise BadFrame for what is no UTF-8."""
    try:
        _, whole = codecs.utf_8_decode(text, "strict", False)
    except UnicodeDecodeError:
        raise BadFrame(CloseCode.BAD_DATA) from None
    tail = text[whole:]
    # Python waits for the third byte of a surrogate, which can be none already.
    if tail[:1] == b"\xed" and tail[1:2] >= b"\xa0":
        raise BadFrame(CloseCode.BAD_DATA)
    return tail
