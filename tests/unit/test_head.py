"""Reading heads: the same as Tornado reads, and refuses."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError

from tornado_rt.head import RequestHeaders, read_head

GOOD = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a\r\ncookie:\t b \t\r\nX-Empty:\r\nX: \xe4 b\tc\n\r\n"
BAD_LINES = [
    b"No colon",
    b" folded",
    b"\tfolded",
    b"Sp ace: x",
    b"Space : x",
    b": nameless",
    b"B\xe4d: x",
    b"Null: \x00",
    b"Delete: \x7f",
    b"Return: a\rb",
    b"Two: a\r",
    b"\r",
    b"Form: \x0c",
]
# Pieces that heads are made of, and those that break them.
PIECES = st.sampled_from(
    [
        b"A",
        b"b-",
        b":",
        b" ",
        b"\t",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\x7f",
        b"\xa0",
        b"\xff",
        b",",
    ]
)


def tornado_reads(head: bytes) -> tuple[str, list[tuple[str, str]]] | None:
    """Return what Tornado 6.6 makes of a head in `HTTP1Connection._parse_headers`."""
    text = head.decode("latin1").lstrip("\r\n")
    eol = text.find("\n")
    try:
        return text[:eol].rstrip("\r"), list(HTTPHeaders.parse(text[eol:]).get_all())
    except HTTPInputError:
        return None


def ours(head: bytes) -> tuple[str, list[tuple[str, str]]] | None:
    try:
        line, headers = read_head(head)
    except HTTPInputError:
        return None
    return line, list(headers.get_all())


def test_head_is_read_as_tornado_reads_it() -> None:
    assert ours(GOOD) == tornado_reads(GOOD)
    line, headers = read_head(b"\r\n" + GOOD)
    assert line == "GET / HTTP/1.1"
    assert isinstance(headers, RequestHeaders)
    assert headers["cookie"] == headers.get("COOKIE") == "a,b"
    assert headers.get_list("Cookie") == ["a", "b"]
    assert headers.get("X-Empty") == ""
    assert headers.get("x") == "\xe4 b\tc"
    assert headers.get("Y") is None
    assert headers.get("Y", "z") == "z"
    del headers["X"]
    headers["Cookie"] = "c"
    headers.add("Cookie", "d")
    assert "X" not in headers
    assert headers.get("Cookie") == headers["Cookie"] == "c,d"


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_is_refused_in_the_words_of_tornado(line: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\nX: y\r\n\r\n"
    assert tornado_reads(head) is None
    with pytest.raises(HTTPInputError) as refusal:
        read_head(head)
    with pytest.raises(HTTPInputError) as expected:
        HTTPHeaders.parse(head.decode("latin1").partition("\n")[2])
    assert str(refusal.value) == str(expected.value)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=12).map(b"".join))
def test_no_head_is_read_otherwise_than_by_tornado(fields: bytes) -> None:
    # A head ends where the first empty line does.
    head = (b"GET / HTTP/1.1\r\n" + fields).partition(b"\n\n")[0].partition(b"\n\r\n")[
        0
    ] + b"\r\n\r\n"
    assert ours(head) == tornado_reads(head)


@pytest.mark.parametrize("filling", [b" ", b"\t", b"a ", b"a", b": ", b"\r\n"])
def test_no_head_takes_long(filling: bytes) -> None:
    """Nothing in it is tried again from each of its places."""
    head = b"GET / HTTP/1.1\r\nX:" + filling * 200_000 + b"\x00\r\n\r\n"
    began = time.process_time()
    assert ours(head) is None
    assert time.process_time() - began < 1.0
