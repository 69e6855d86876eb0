"""Frames that wait for a slow reader."""

from hypothesis import given
from hypothesis import strategies as st

from tornado_rt.backlog import WRITE_BYTES, Backlog
from tornado_rt.protocol import Message


def encode(message: Message) -> bytes:
    return message.encode()


def backlog_of(messages: list[Message], rest: bytes = b"rest") -> Backlog:
    backlog = Backlog(memoryview(rest))
    for message in messages:
        backlog.add(message, len(encode(message)))
    return backlog


def news(type_: str, number: int) -> Message:
    return Message(type_, b"%d" % number, f"e-{number}")


types = st.sampled_from(["progress", "heartbeat", "error"])


@given(st.lists(types, max_size=20), st.binary(min_size=1, max_size=50))
def test_conflation_keeps_the_newest_of_each_type_and_the_end(sent: list[str], rest: bytes) -> None:
    """`finished`, which comes once, is never left out, and the order stays."""
    messages = [news(type_, number) for number, type_ in enumerate([*sent, "finished"])]
    backlog = backlog_of(messages, rest)
    gone = backlog.conflate(encode, lambda _: True)
    kept = list(backlog.messages)
    newest = {message.type: message for message in messages}
    assert kept == sorted(newest.values(), key=messages.index)
    assert kept[-1].type == "finished"
    assert gone == len(messages) - len(kept)
    assert backlog.size == len(rest) + sum(len(encode(one)) for one in kept)


@given(st.lists(types, max_size=20), st.lists(st.integers(1, 80)))
def test_everything_is_sent_once_and_in_order(sent: list[str], takes: list[int]) -> None:
    """The kernel takes any part at a time; the size falls to nothing."""
    messages = [news(type_, number) for number, type_ in enumerate(sent)]
    backlog, written, count = backlog_of(messages), b"", 0
    for most in [*takes, *[1_000_000] * 3]:
        piece = bytes(backlog.rest[:most])
        written += piece
        count += backlog.advance(len(piece), encode)
    assert written == b"rest" + b"".join(map(encode, messages))
    assert (backlog.size, count) == (0, len(messages))


def test_a_write_joins_a_bounded_number_of_messages() -> None:
    assert WRITE_BYTES == 65536
    message = Message("progress", b'"' + b"x" * (WRITE_BYTES // 4) + b'"')
    backlog = backlog_of([message] * 100)
    assert backlog.advance(len(b"rest"), encode) == 4
    assert len(backlog.rest) < 2 * WRITE_BYTES


def test_a_write_ends_with_the_message_that_fills_it() -> None:
    """Large and small ones in turn: the bytes of all count."""
    sizes = [WRITE_BYTES // 2, 1000] * 4
    messages = [Message("progress", b'"' + b"x" * size + b'"') for size in sizes]
    fill = WRITE_BYTES - len(encode(messages[0])) - len(encode(messages[1]))
    frame = len(encode(Message("progress", b"")))
    messages.insert(2, Message("progress", b"x" * (fill - frame)))
    backlog = backlog_of(messages)
    assert backlog.advance(len(b"rest"), encode) == 3
    assert len(backlog.rest) == WRITE_BYTES
    assert backlog.advance(WRITE_BYTES, encode) == 3


def test_dropping_leaves_what_has_begun() -> None:
    """A frame that the client has half of is not cut off."""
    backlog = backlog_of([news("progress", 1), news("progress", 2)])
    assert backlog.drop() == 2
    assert (bytes(backlog.rest), backlog.size) == (b"rest", 4)
