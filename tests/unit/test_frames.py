"""The reader of clients' frames."""

import itertools
import random
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, client_frame
from tornado_rt.deflate import SYNC_TAIL, Inflater, most_deflated
from tornado_rt.frames import PART, BadFrame, FrameReader, close_frame
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
    "head",
    [
        b"\x81\x01",
        b"\x80",
        client_frame(TEXT, b"x", bits=0) + b"\x81",
        client_frame(TEXT, b"x", bits=0) + b"\x02",
        client_frame(TEXT, b"x", bits=0) + b"\xc0",
        b"\xc1",
        b"\xa1",
        b"\x91",
        *[bytes([FIN | reserved]) for reserved in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        b"\x09",
        b"\x08",
        b"\xc9",
        b"\x89\xfe",
        b"\x8a\xff",
        b"\x88\x81",
        b"\x81\xfe\x00\x7d",
        b"\x81\xff" + bytes(6) + b"\xff\xff",
        b"\x81\xff\x80" + bytes(7),
    ],
    ids=[
        "unmasked",
        "continues nothing",
        "begins inside another",
        "begins binary inside another",
        "continues compressed",
        "compressed, not agreed on",
        "reserved bit 2",
        "reserved bit 3",
        *[f"opcode {reserved}" for reserved in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        "fragmented ping",
        "fragmented close",
        "compressed ping",
        "ping of 126 and more",
        "pong of 65536 and more",
        "close with half a code",
        "125 in two bytes",
        "65535 in eight bytes",
        "highest bit of a size",
    ],
)
def test_frame_that_the_protocol_does_not_allow_is_refused_at_its_head(head: bytes) -> None:
    """At the byte that says so: RFC 6455 sections 5.1 to 5.5."""
    assert read(head[:-1]) is not None
    with pytest.raises(BadFrame) as refused:
        read(head)
    assert refused.value.code is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_close_code_that_may_not_be_sent_is_refused(code: int) -> None:
    with pytest.raises(BadFrame) as refused:
        read(client_frame(CLOSE, struct.pack("!H", code)))
    assert refused.value.code is CloseCode.PROTOCOL_ERROR


# RFC 6455 section 7.4.1, and the registry of close codes at IANA.
SENT = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999)


def test_close_of_the_server_has_the_code_and_its_name() -> None:
    assert close_frame(CloseCode.TOO_LARGE) == b"\x88\x0b\x03\xf1too_large"


@pytest.mark.parametrize(
    "payload", [b"", *[struct.pack("!H", code) + "späť".encode() for code in SENT]]
)
def test_close_is_read(payload: bytes) -> None:
    assert read(client_frame(CLOSE, payload)) == [(CLOSE, payload)]


@pytest.mark.parametrize("reason", [b"\xff", b"\xed\xa0\x80", b"cut \xc3", b"\xc0\xaf"])
def test_close_whose_reason_is_not_utf8_is_refused(reason: bytes) -> None:
    with pytest.raises(BadFrame) as refused:
        read(client_frame(CLOSE, b"\x03\xe8" + reason))
    assert refused.value.code is CloseCode.BAD_DATA


NO_TEXT = {
    "a continuation byte": b"\x80",
    "a byte that never is": b"\xfe",
    "overlong of two bytes": b"\xc0",
    "overlong of three bytes": b"\xe0\x9f",
    "overlong of four bytes": b"\xf0\x8f",
    "surrogate": b"\xed\xa0",
    "above U+10FFFF": b"\xf4\x90",
    "broken off": b"\xe2\x82x",
}


@pytest.mark.parametrize("wrong", NO_TEXT.values(), ids=NO_TEXT)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_text_that_is_not_utf8_is_refused_at_its_byte(
    wrong: bytes, compressed: bool, before: int
) -> None:
    """Before the frame is whole, and the message; at any place of the mask."""
    good = "é€𝄞".encode() + b"x" * before
    reader = FrameReader(MOST, Inflater("") if compressed else None)
    frame = client_frame(TEXT, good, bits=0)
    if compressed:
        # Blocks that are stored: what was sent comes out as it goes in.
        frame = client_frame(TEXT, stored(good), bits=RSV1)
    assert frames(reader, frame) == []
    part = stored(wrong + b"more") if compressed else wrong + b"more"
    frame = client_frame(CONTINUATION, part, bits=0)
    end = len(frame) - len(b"more")
    assert frames(reader, frame[: end - 1]) == []
    with pytest.raises(BadFrame) as refused:
        frames(reader, frame[end - 1 : end])
    assert refused.value.code is CloseCode.BAD_DATA


@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x9d\x84"])
def test_text_that_ends_inside_a_character_is_refused(cut: bytes) -> None:
    """In a message of one frame, and of more."""
    for stream in (client_frame(TEXT, cut), b"".join(fragments(TEXT, [b"x", cut, b""]))):
        with pytest.raises(BadFrame) as refused:
            read(stream)
        assert refused.value.code is CloseCode.BAD_DATA


def stored(data: bytes) -> bytes:
    """Return a DEFLATE block that is not compressed (RFC 1951 section 3.2.4)."""
    return struct.pack("<BHH", 0, len(data), len(data) ^ 0xFFFF) + data


def test_empty_fragments_leave_nothing_behind() -> None:
    """A message of 100,000 frames is read in time that grows with their number alone."""
    reader, many = FrameReader(MOST), 100_000
    stream = client_frame(TEXT, b"a", bits=0) + b"\x00\x80\1\2\3\4" * many
    tracemalloc.start()
    took = time.process_time()
    for piece in batched(stream, 16384):
        assert frames(reader, piece) == []
    took = time.process_time() - took
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Seconds under the tracing; it were minutes if each frame looked at all before it.
    assert took < 20
    assert kept < len(stream) + 50_000
    assert frames(reader, client_frame(CONTINUATION, b"b")) == [(TEXT, b"ab")]


def test_message_is_told_of_by_parts_until_it_is_whole() -> None:
    """So that a reader can stop, and go on later, after any frame."""
    reader = FrameReader(MOST)
    reader.feed(b"".join([*fragments(TEXT, [b"a", b"b", b"c"]), client_frame(PING, b"x")]))
    assert [reader.next() for _ in range(5)] == [PART, PART, (TEXT, b"abc"), (PING, b"x"), None]


garbage = st.one_of(
    st.binary(max_size=600),
    # Heads that are good more often.
    st.lists(
        st.builds(
            lambda first, size, rest: bytes([first, 0x80 | size]) + rest,
            st.sampled_from([0x81, 0x01, 0x00, 0x80, 0xC1, 0x41, 0x82, 0x88, 0x89, 0x8A]),
            st.integers(0, 127),
            st.binary(max_size=150),
        )
    ).map(b"".join),
)


@given(garbage, st.lists(st.integers(0, 2000)), st.booleans())
def test_any_bytes_are_messages_or_refused_or_waited_for(
    stream: bytes, cuts: list[int], compressed: bool
) -> None:
    """The same however they are cut, never another error, and no more is kept than is allowed."""
    most = 300

    def outcome(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], CloseCode | None]:
        reader, read = FrameReader(most, Inflater("") if compressed else None), []
        try:
            for piece in pieces:
                reader.feed(piece)
                while (frame := reader.next()) is not None:
                    assert len(frame[1]) <= most
                    read.append(frame)
                assert len(reader._data) <= 14 + 125
                assert reader._message is None or len(reader._message.body) <= most
        except BadFrame as error:
            return read, error.code
        return read, None

    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert outcome(pieces) == outcome([stream]) == outcome(batched(stream, 1))


def test_message_that_is_too_large_is_refused_before_it_has_come() -> None:
    """By what its head announces, alone and with the fragments before."""
    half = client_frame(TEXT, b"x" * (MOST // 2 + 1), bits=0)
    more = client_frame(CONTINUATION, b"x" * (MOST // 2 + 1))[:4]
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


def test_fragments_of_a_compressed_message_are_inflated_up_to_the_bound_together() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    half = compressor.compress(b"x" * MOST) + compressor.flush(zlib.Z_SYNC_FLUSH)
    rest = compressor.compress(b"x") + compressor.flush(zlib.Z_FULL_FLUSH)
    begin = client_frame(TEXT, half, bits=RSV1)
    end = client_frame(CONTINUATION, rest.removesuffix(SYNC_TAIL), bits=FIN)
    with pytest.raises(BadFrame) as refused:
        read(begin, end, inflater=Inflater(""))
    assert refused.value.code is CloseCode.TOO_LARGE


def test_compressed_bomb_is_refused_before_it_has_come() -> None:
    """Its inflated size is bounded while it comes, and so is the announced one."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(50_000_000)) + compressor.flush(zlib.Z_FULL_FLUSH)
    frame = client_frame(TEXT, bomb[: most_deflated(MOST)], bits=RSV1)
    for stream in (frame[:400], client_frame(TEXT, bytes(MOST * 2), bits=FIN | RSV1)[:14]):
        with pytest.raises(BadFrame) as refused:
            read(stream, inflater=Inflater(""))
        assert refused.value.code is CloseCode.TOO_LARGE


@pytest.mark.parametrize("memory", [1, 8])
def test_message_that_compression_makes_larger_is_read(memory: int) -> None:
    """A client's message of the largest size is taken, whatever it is made of."""
    noise = random.Random(1).randbytes(MOST)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, memory)
    part = compressor.compress(noise) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(part) > MOST
    frame = client_frame(BINARY, part.removesuffix(SYNC_TAIL), bits=FIN | RSV1)
    assert read(frame, inflater=Inflater("")) == [(BINARY, noise)]


def test_data_that_cannot_be_inflated_is_refused() -> None:
    with pytest.raises(BadFrame) as refused:
        read(client_frame(TEXT, b"\xff" * 20, bits=FIN | RSV1), inflater=Inflater(""))
    assert refused.value.code is CloseCode.BAD_DATA
