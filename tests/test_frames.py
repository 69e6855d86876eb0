"""The reader of clients' frames."""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, client_frame
from tornado_rt.deflate import SYNC_TAIL, Inflater
from tornado_rt.frames import PART, BadFrame, FrameReader
from tornado_rt.protocol import CloseCode

MOST = 70_000

binary = st.tuples(st.just(BINARY), st.lists(st.binary(max_size=300), min_size=1))
# In parts of three bytes: characters are cut too.
text = st.tuples(
    st.just(TEXT),
    st.text().map(lambda text: batched(text.encode(), 3) or [b""]),
)
messages = st.lists(st.one_of(text, binary), max_size=5)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(*pieces: bytes, inflater: Inflater | None = None) -> list[tuple[int, bytes]]:
    reader = FrameReader(MOST, inflater)
    return [frame for piece in pieces for frame in frames(reader, piece)]


def frames(reader: FrameReader, piece: bytes) -> list[tuple[int, bytes]]:
    """Return the messages and control frames that a piece makes whole."""
    reader.feed(piece)
    return [frame for frame in iter(reader.next, None) if frame != PART]


def fragments(opcode: int, parts: list[bytes]) -> list[bytes]:
    """Return a message as one frame for each part."""
    opcodes = [opcode] + [CONTINUATION] * (len(parts) - 1)
    bits = [0] * (len(parts) - 1) + [FIN]
    return [client_frame(*frame) for frame in zip(opcodes, parts, bits, strict=True)]


@given(messages, controls, st.lists(st.integers(0, 5000)))
def test_any_split_of_the_bytes_gives_the_same_messages(
    sent: list[tuple[int, list[bytes]]], control: tuple[int, bytes], cuts: list[int]
) -> None:
    """Fragments are put together, and control frames come between them, in their order."""
    stream, expected = b"", []
    for opcode, parts in sent:
        for frame in fragments(opcode, parts):
            # Before each fragment, also inside of a message.
            stream += client_frame(*control) + frame
            expected.append(control)
        expected.append((opcode, b"".join(parts)))
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert read(*pieces) == expected


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_length_is_read(size: int) -> None:
    assert read(client_frame(TEXT, b"x" * size)) == [(TEXT, b"x" * size)]


@pytest.mark.parametrize(
    "stream",
    [
        client_frame(TEXT, b"x", masked=False),
        client_frame(CONTINUATION, b"x"),
        client_frame(TEXT, b"x", bits=0) + client_frame(TEXT, b"y"),
        client_frame(TEXT, b"x", bits=FIN | RSV1),
        client_frame(TEXT, b"x", bits=FIN | 0x20),
        client_frame(3, b"x"),
        client_frame(11, b"x"),
        client_frame(PING, b"x", bits=0),
        client_frame(PING, b"x" * 126),
        client_frame(CLOSE, b"x"),
        client_frame(CLOSE, b"\x03\xed"),
    ],
    ids=[
        "unmasked",
        "continues nothing",
        "begins inside another",
        "compressed, not agreed on",
        "reserved bit",
        "unknown opcode",
        "unknown control frame",
        "fragmented ping",
        "long ping",
        "close with half a code",
        "close with 1005",
    ],
)
def test_frame_that_the_protocol_does_not_allow_is_refused(stream: bytes) -> None:
    with pytest.raises(BadFrame) as refused:
        read(stream)
    assert refused.value.code is CloseCode.PROTOCOL_ERROR


def test_message_that_is_too_large_is_refused_before_it_has_come() -> None:
    """By what its head announces, and by what its fragments add up to."""
    half = client_frame(TEXT, b"x" * (MOST // 2 + 1), bits=0)
    more = client_frame(CONTINUATION, b"x" * (MOST // 2 + 1))
    for stream in (client_frame(TEXT, b"x" * (MOST + 1))[:14], half + more):
        with pytest.raises(BadFrame) as refused:
            read(stream)
        assert refused.value.code is CloseCode.TOO_LARGE


def test_compressed_message_is_inflated_up_to_the_bound() -> None:
    for size, code in ((MOST, None), (MOST + 1, CloseCode.TOO_LARGE)):
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        part = compressor.compress(b"x" * size) + compressor.flush(zlib.Z_FULL_FLUSH)
        frame = client_frame(TEXT, part.removesuffix(SYNC_TAIL), bits=FIN | RSV1)
        if code is None:
            assert read(frame, inflater=Inflater("")) == [(TEXT, b"x" * size)]
            continue
        with pytest.raises(BadFrame) as refused:
            read(frame, inflater=Inflater(""))
        assert refused.value.code is code


def test_data_that_cannot_be_inflated_is_refused() -> None:
    with pytest.raises(BadFrame) as refused:
        read(client_frame(TEXT, b"\xff" * 20, bits=FIN | RSV1), inflater=Inflater(""))
    assert refused.value.code is CloseCode.BAD_DATA
