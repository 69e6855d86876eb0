"""permessage-deflate (RFC 7692). A message that we send refers to nothing before it.

So a compressed message is the same for all who negotiated it and made once, and an open socket has
no compressor, which would take some 100 KB; our answer to an offer says so, which section 7.1.1.1
allows also when the client did not ask for it. A client may do the same when it offers to. We do
not demand it: Tornado's own client, for one, does not hear that.
"""

import re
import zlib

from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

EXTENSION = "permessage-deflate"
# A sender removes this from the end of a message (section 7.2.1).
SYNC_TAIL = b"\x00\x00\xff\xff"
LEVEL = 6
# We look back 4 KB, which is all of most messages, for clients that keep no more.
WINDOW_BITS = 12
# For a client that keeps less, down to 256 bytes. zlib has no window of 8 bits, but that of 9 does:
# it looks back at most its size less 262 bytes (`MAX_DIST` in deflate.h), which is 250.
SMALL_WINDOW_BITS = 9
WINDOWS = {str(bits) for bits in range(8, 16)}
OURS_ALONE = "server_no_context_takeover"
THEIRS_ALONE = "client_no_context_takeover"
OUR_WINDOW = "server_max_window_bits"
THEIR_WINDOW = "client_max_window_bits"
# A message of a client may end this many DEFLATE streams (BFINAL); each costs a new decompressor.
MOST_STREAMS = 1000

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A parameter's value may be quoted, and is a token all the same (RFC 6455 section 9.1).
_PARAMETER = re.compile(rf"({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|\"({_TOKEN})\"))?")
Parameter = tuple[str, str | None]
Offer = tuple[str, list[Parameter]]


class TooLarge(Exception):
    """A message inflates to more than is allowed, or takes too much work."""


def answer_offers(header: str) -> str | None:
    """Return the answer to a Sec-WebSocket-Extensions header; None: nothing to be agreed on.

    Raise ValueError for a header that is malformed.
    """
    # An element of a list may be empty (RFC 9110 section 5.6.1).
    offers = [_offer(text) for text in header.split(",") if text.strip()]
    for name, parameters in offers:
        if name == EXTENSION and (accepted := _accept(parameters)) is not None:
            return "; ".join([EXTENSION, *accepted])
    return None


def window_of(agreed: str) -> int:
    """Return the window, in bits, that we compress with under an answer of `answer_offers`."""
    _, named, bits = agreed.partition(f"{OUR_WINDOW}=")
    return SMALL_WINDOW_BITS if named and int(bits) < WINDOW_BITS else WINDOW_BITS


def deflate(text: bytes, window: int = WINDOW_BITS) -> bytes:
    """Compress a message; `window` is one that `window_of` returns."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -window)
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(SYNC_TAIL)


def most_deflated(most: int) -> int:
    """Return how large a message of `most` bytes may be when it is compressed.

    Data that does not compress grows by some bytes a block, of 128 bytes and more.
    """
    return most + most // 16 + 64


class Inflater:
    """Reads the compressed messages of one client, in their order."""

    __slots__ = ("_keeps", "_streams", "_window")

    def __init__(self, agreed: str) -> None:
        self._keeps = THEIRS_ALONE not in agreed
        self._window: zlib._Decompress | None = None
        # Number of DEFLATE streams that the message has ended.
        self._streams = 0

    def inflate(self, data: bytes, most: int, *, end: bool = True) -> bytes:
        """Return what this piece of a message inflates to; `end`: it is the last.

        Raise TooLarge for more than `most` bytes, or ValueError for other data; after either
        nothing more can be read.
        """
        text = self._inflate(data + SYNC_TAIL if end else data, most)
        if end:
            self._streams = 0
            self._window = self._window if self._keeps else None
        return text

    def _inflate(self, data: bytes, most: int) -> bytes:
        pieces = []
        while data:
            if data == SYNC_TAIL and self._streams and self._window is None:
                # The sender has left out the byte that section 7.2.3.4 adds to the last block.
                break
            self._window = self._window or zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                piece = self._window.decompress(data, most + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            most -= len(piece)
            if most < 0:
                raise TooLarge
            pieces.append(piece)
            data = self._next_stream() if self._window.eof else b""
        return b"".join(pieces)

    def _next_stream(self) -> bytes:
        """Return what comes after a stream's last block (section 7.2.3.4)."""
        assert self._window is not None
        rest, self._window = self._window.unused_data, None
        self._streams += 1
        if self._streams > MOST_STREAMS:
            raise TooLarge
        return rest


def _offer(text: str) -> Offer:
    name, *parameters = (part.strip(" \t") for part in text.split(";"))
    if not re.fullmatch(_TOKEN, name):
        raise ValueError(phrase("not an extension: {name}", name=repr(cut(name, 50))))
    return name, [_parameter(text) for text in parameters]


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise ValueError(
            phrase("not a parameter of an extension: {text}", text=repr(cut(text, 50)))
        )
    name, plain, quoted = match.groups()
    return name, plain or quoted


def _accept(parameters: list[Parameter]) -> list[str] | None:
    """Return what to answer to an offer; None for one to be declined (section 7.1)."""
    offered = dict(parameters)
    if len(offered) < len(parameters) or not all(map(_is_known, offered, offered.values())):
        return None
    answer = [OURS_ALONE, *([THEIRS_ALONE] if THEIRS_ALONE in offered else [])]
    asked = offered.get(OUR_WINDOW)
    if asked is None:
        return answer
    # It must be answered when it is asked for.
    return [*answer, f"{OUR_WINDOW}={min(int(asked), WINDOW_BITS)}"]


def _is_known(name: str, value: str | None) -> bool:
    if name in (OURS_ALONE, THEIRS_ALONE):
        return value is None
    if name == THEIR_WINDOW and value is None:
        return True
    return name in (THEIR_WINDOW, OUR_WINDOW) and value in WINDOWS
