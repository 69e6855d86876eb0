"""permessage-deflate: what is agreed on, and that both sides can read what was sent."""

import random
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_rt.deflate import (
    MOST_STREAMS,
    SMALL_WINDOW_BITS,
    SYNC_TAIL,
    Inflater,
    TooLarge,
    answer_offers,
    deflate,
    window_of,
)

BY_ITSELF = "permessage-deflate; server_no_context_takeover"
WITH_WINDOW = f"{BY_ITSELF}; server_max_window_bits=12"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("", None),
        ("permessage-bzip2", None),
        ("permessage-deflate; x*0*=a'b", None),
        ("permessage-deflate", BY_ITSELF),
        # Chrome, Firefox and Safari.
        ("permessage-deflate; client_max_window_bits", BY_ITSELF),
        ("permessage-deflate; client_max_window_bits=10", BY_ITSELF),
        ("permessage-deflate; server_no_context_takeover", BY_ITSELF),
        (
            "permessage-deflate; client_no_context_takeover",
            f"{BY_ITSELF}; client_no_context_takeover",
        ),
        ('permessage-deflate; server_max_window_bits="15"', WITH_WINDOW),
        # The library `websockets`.
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", WITH_WINDOW),
        ("x-other; a=b, permessage-deflate", BY_ITSELF),
        # The first offer that can be kept.
        ("permessage-deflate; unheard_of, permessage-deflate", BY_ITSELF),
        # We look back no further than we are asked to.
        *[
            (
                f"permessage-deflate; server_max_window_bits={n}",
                f"{BY_ITSELF}; server_max_window_bits={n}",
            )
            for n in (8, 9, 10, 11)
        ],
        ("permessage-deflate;server_max_window_bits=8 ,", f"{BY_ITSELF}; server_max_window_bits=8"),
    ],
)
def test_offer_is_answered(offers: str, answer: str | None) -> None:
    assert answer_offers(offers) == answer


@pytest.mark.parametrize(
    "parameters",
    [
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=012",
        "server_max_window_bits",
        "client_max_window_bits=7",
        "client_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "unheard_of",
    ],
)
def test_offer_that_cannot_be_kept_is_declined(parameters: str) -> None:
    """RFC 7692 section 7.1: unknown or repeated parameters, and values that are none."""
    assert answer_offers(f"permessage-deflate; {parameters}") is None


@pytest.mark.parametrize(
    "header",
    [
        "permessage-deflate; =1",
        "permessage-deflate; a=",
        'permessage-deflate; a="b',
        'permessage-deflate; a="b c"',
        "permessage-deflate;",
        "per message",
        "; a",
        "permessage-deflate; a==b",
        "ä",
    ],
)
def test_malformed_header_is_none(header: str) -> None:
    """RFC 6455 section 9.1: then the connection fails."""
    with pytest.raises(ValueError, match="not a"):
        answer_offers(header)


@pytest.mark.parametrize("bits", [8, 9, 10, 11])
@given(st.binary(min_size=3, max_size=40), st.integers(0, 1200))
@example(b"a sentence that comes again, and is worth a reference", 200)
@example(b"a sentence that comes again, and is worth a reference", 203)
@example(b"abc", 250)
@example(b"abc", 253)
@example(b"abc", 254)
def test_small_window_is_kept(bits: int, part: bytes, gap: int) -> None:
    """With an output of one byte at a time there is nothing to refer to but the window."""
    between = bytes(random.Random(gap).choices(b"0123456789abcdef", k=gap))
    text = (part + between) * 3
    window = window_of(f"permessage-deflate; server_max_window_bits={bits}")
    small, rest, read = zlib.decompressobj(-bits), deflate(text, window) + SYNC_TAIL, b""
    while rest:
        read += small.decompress(rest, 1)
        rest = small.unconsumed_tail
    assert read == text


def test_small_window_compresses() -> None:
    assert len(deflate(b"progress " * 100, SMALL_WINDOW_BITS)) < 50


@given(st.binary(min_size=1, max_size=300), st.integers(0, 20_000))
@example(b"a sentence that comes again, and is worth a reference", 10_000)
def test_message_needs_no_more_than_the_window_that_was_agreed_on(part: bytes, gap: int) -> None:
    """Nothing is referred to that a client with a small window has forgotten."""
    between = bytes(random.Random(gap).choices(b"0123456789abcdef", k=gap))
    text = part + between + part
    small, rest, read = zlib.decompressobj(-12), deflate(text) + SYNC_TAIL, b""
    while rest:
        # A little at a time: what it gave away before is only in its window.
        read += small.decompress(rest, 500)
        rest = small.unconsumed_tail
    assert read == text
    assert Inflater("").inflate(deflate(text), len(text)) == text


def test_bomb_is_not_inflated_past_the_bound() -> None:
    with pytest.raises(TooLarge):
        Inflater("").inflate(deflate(bytes(10_000_000)), 1000)


@pytest.mark.parametrize("agreed", ["", "client_no_context_takeover"])
def test_client_may_refer_to_its_last_message_unless_it_said_it_would_not(agreed: str) -> None:
    inflater = Inflater(agreed)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = bytes(range(256))
    messages = [compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    first, second = (message.removesuffix(SYNC_TAIL) for message in messages)
    assert inflater.inflate(first, 256) == text
    if agreed:
        with pytest.raises(ValueError, match="distance too far back"):
            inflater.inflate(second, 256)
    else:
        assert inflater.inflate(second, 256) == text


def ended(text: bytes) -> bytes:
    """Return a DEFLATE stream whose last block says that it is (BFINAL)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(text) + compressor.flush(zlib.Z_FINISH)


@pytest.mark.parametrize(
    "message",
    [
        ended(b"ping") + b"\0",
        # RFC 7692 section 7.2.3.4.
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        ended(b"pi") + ended(b"ng") + b"\0",
        ended(b"pi") + deflate(b"ng"),
        ended(b"") * 5 + deflate(b"ping"),
        # Not to the letter, but clear.
        ended(b"ping"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("agreed", ["", "client_no_context_takeover"])
def test_stream_may_end_inside_a_message_and_at_its_end(
    message: bytes, size: int, agreed: str
) -> None:
    """And the message after it is read; in whatever pieces they come."""
    inflater, text = Inflater(agreed), b""
    for data in (message, deflate(b"next")):
        for at in range(0, len(data), size):
            text += inflater.inflate(data[at : at + size], 1000, end=False)
        text += inflater.inflate(b"", 1000)
    assert text in (b"pingnext", b"Hellonext")


def test_streams_that_end_are_bounded() -> None:
    """Each costs a decompressor, whether anything comes of it or not."""
    inflater = Inflater("")
    assert inflater.inflate(ended(b"") * MOST_STREAMS + deflate(b"x"), 10) == b"x"
    # Counted anew in the next message.
    assert inflater.inflate(ended(b"y") + deflate(b"x"), 10) == b"yx"
    with pytest.raises(TooLarge):
        inflater.inflate(ended(b"") * (MOST_STREAMS + 1), 10)


def test_bomb_is_not_inflated_past_the_bound_in_pieces() -> None:
    inflater, bomb, room = Inflater(""), iter(deflate(bytes(100_000))), 1000

    def next_piece() -> int:
        return len(inflater.inflate(bytes([next(bomb)]), room, end=False))

    # The first pieces give a little; the one that gives too much is refused.
    while room > 300:
        room -= next_piece()
    with pytest.raises(TooLarge):
        next_piece()
    assert room >= 0
