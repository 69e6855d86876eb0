"""The id of an event on a stream of many topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_rt.places import format_places, parse_places
from tornado_rt.protocol import MOST_OFFSET, Cursor

names = st.text(min_size=1, max_size=40)
epochs = st.text("abcdefABCDEF0123456789", min_size=1, max_size=64)
cursors = st.builds(Cursor, epochs, st.integers(0, MOST_OFFSET))
placed = st.dictionaries(names, cursors, max_size=30)


@given(placed)
def test_id_holds_the_cursor_of_each_topic(places: dict[str, Cursor]) -> None:
    text = format_places(places)
    assert parse_places(text, places) == places
    assert text.isascii()
    assert text.isprintable()


@given(placed, st.sets(names, max_size=10))
def test_topics_that_it_has_go_on_whichever_others_are_asked_for(
    places: dict[str, Cursor], others: set[str]
) -> None:
    asked = {*list(places)[::2], *others}
    expected = {name: cursor for name, cursor in places.items() if name in asked}
    assert parse_places(format_places(places), asked) == expected


@given(placed, st.lists(names, unique=True, max_size=10))
def test_cursors_may_be_listed_in_the_order_of_the_topics(
    places: dict[str, Cursor], others: list[str]
) -> None:
    asked = [*places, *(one for one in others if one not in places)]
    text = ".".join(str(places.get(name, "")) for name in asked)
    if asked:
        assert parse_places(f"c~{text}", asked) == places


def test_different_cursors_have_different_ids() -> None:
    """Offsets and epochs of several topics do not run into each other."""
    one = {"a": Cursor("e1", 1), "b": Cursor("e1", 11)}
    two = {"a": Cursor("e1", 11), "b": Cursor("e1", 1)}
    three = {"a": Cursor("e1", 1), "b": Cursor("e2", 11)}
    assert len({format_places(places) for places in (one, two, three)}) == 3


BAD = [
    *("m", "m~", "m~e1", "e1-5", "m~e1~x", "m~~AAAAAAAA0-1", "m~e1~AAAAAAAA1-1"),
    *("m~e1~AAAAAAAA0-99999999999999999999", f"m~e1~AAAAAAAA0-{MOST_OFFSET + 1}"),
    *("m~e1~AAAAAAA0-1", "m~e1~AAAAAAAA0-1.", "m~e1.~AAAAAAAA0-1", "m~e1~AAAAAAAA0-1\n"),
    "m~e1~" + ".".join(["AAAAAAAA0-1"] * 2000),
]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the id of an event"):
        parse_places(text, ["a"])


@pytest.mark.parametrize("text", ["c~", "c~e-1", "c~e-1.e-2.e-3", "c~e-1.x", "c~e-1.e-2\n"])
def test_list_of_other_cursors_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cursor"):
        parse_places(text, ["a", "b"])
