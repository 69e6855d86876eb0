"""permessage-deflate: what is agreed on, and that both sides can read what was sent."""

import random
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_rt.deflate import SYNC_TAIL, Inflater, TooLarge, answer_offers, deflate

BY_ITSELF = "permessage-deflate; server_no_context_takeover"
WITH_WINDOW = f"{BY_ITSELF}; server_max_window_bits=12"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("", None),
        ("permessage-bzip2", None),
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
