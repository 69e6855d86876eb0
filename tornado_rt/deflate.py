"""permessage-deflate (RFC 7692). What we send refers to nothing before it.

So a compressed message is the same for all who negotiated it and made once, and an open socket has
no compressor, which would take some 100 KB; our answer to an offer says so, which section 7.1.1.1
allows also when the client did not ask for it. A client may do the same when it offers to. We do
not demand it: Tornado's own client, for one, does not hear that.
"""

import zlib
from collections.abc import Iterator

EXTENSION = "permessage-deflate"
# What a sender takes away from the end of a message (section 7.2.1).
SYNC_TAIL = b"\x00\x00\xff\xff"
LEVEL = 6
# We look back 4 KB, which is all of most messages, for clients that keep no more.
WINDOW_BITS = 12
WINDOWS = {str(bits) for bits in range(8, 16)}
OURS_ALONE = "server_no_context_takeover"
THEIRS_ALONE = "client_no_context_takeover"


class TooLarge(Exception):
    """A message inflates to more than is allowed."""


def answer_offers(header: str) -> str | None:
    """Return the answer to a Sec-WebSocket-Extensions header; None: nothing to be agreed on."""
    for name, parameters in _offers(header):
        if name == EXTENSION and (accepted := _accept(parameters)) is not None:
            return "; ".join([EXTENSION, *accepted])
    return None


def deflate(text: bytes) -> bytes:
    """Compress a message."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS)
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(SYNC_TAIL)


class Inflater:
    """Reads the compressed messages of one client, in their order."""

    __slots__ = ("_keeps", "_window")

    def __init__(self, agreed: str) -> None:
        self._keeps = THEIRS_ALONE not in agreed
        self._window: zlib._Decompress | None = None

    def inflate(self, data: bytes, most: int) -> bytes:
        """Return the message, of up to `most` bytes. Raise TooLarge, or ValueError for other data.

        After either nothing more can be read.
        """
        window = self._window or zlib.decompressobj(-zlib.MAX_WBITS)
        self._window = window if self._keeps else None
        try:
            message = window.decompress(data + SYNC_TAIL, most + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(message) > most:
            raise TooLarge
        return message


def _offers(header: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    for offer in header.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        yield name, [_parameter(text) for text in parameters]


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    # A value may be quoted (RFC 6455 section 9.1).
    return name.strip(), value.strip().strip('"') if equals else None


def _accept(parameters: list[tuple[str, str | None]]) -> list[str] | None:
    """Return what to answer to an offer; None for one to be declined (section 7.1)."""
    offered = dict(parameters)
    if len(offered) < len(parameters) or not all(map(_is_known, offered, offered.values())):
        return None
    answer = [OURS_ALONE, *([THEIRS_ALONE] if THEIRS_ALONE in offered else [])]
    window = offered.get("server_max_window_bits")
    if window is None:
        return answer
    # It must be answered when it is asked for.
    return (
        [*answer, f"server_max_window_bits={WINDOW_BITS}"] if int(window) >= WINDOW_BITS else None
    )


def _is_known(name: str, value: str | None) -> bool:
    if name in (OURS_ALONE, THEIRS_ALONE):
        return value is None
    if name == "client_max_window_bits" and value is None:
        return True
    return name in ("client_max_window_bits", "server_max_window_bits") and value in WINDOWS
