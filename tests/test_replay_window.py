"""The replay window, beside a set that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st

from tornado_rt.protocol import Cursor
from tornado_rt.replay_window import SIZE, ReplayWindow


@given(st.lists(st.integers(0, 3 * SIZE) | st.integers(10**30, 10**30 + SIZE), max_size=200))
def test_what_came_within_the_window_is_known(offsets: list[int]) -> None:
    """Of what lies farther back nothing is said to have come."""
    window, came, top = ReplayWindow(), set(), 0
    for offset in offsets:
        known = offset in came and offset > top - SIZE
        assert window.admit(Cursor("e1", offset)) is not known
        came.add(offset)
        top = max(top, offset)


def test_numbers_of_another_epoch_are_others() -> None:
    window = ReplayWindow()
    assert [window.admit(Cursor(epoch, 5)) for epoch in ("e1", "e1", "e2", "e2")] == [
        True,
        False,
        True,
        False,
    ]
