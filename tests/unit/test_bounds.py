"""Bounds of input."""

from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_rt.bounds import (
    MAX_DEPTH,
    OutOfBounds,
    check_json,
    check_name,
    check_text,
    name_of,
)
from tornado_rt.work import clean_text


def nested(depth: int, leaf: Any = None) -> Any:
    """Return a list in a list …, `depth` lists in all."""
    value = [] if leaf is None else [leaf]
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["a", "张三", "Zoë\u3000Ω", "👩\u200d🚀", "x" * 255])
def test_name_may_hold_any_script_and_space(name: str) -> None:
    check_name("user_id", name, 255)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0b", "\x7f", "\ud800", "a\u2028b"])
def test_name_without_end_or_with_control_characters_is_refused(name: str) -> None:
    with pytest.raises(OutOfBounds, match="user_id must"):
        check_name("user_id", name, 255)


def test_text_may_have_lines_but_no_other_control_characters() -> None:
    check_text("content", "one\r\n\ttwo", 100)
    with pytest.raises(OutOfBounds):
        check_text("content", "a\x1bb", 100)


def test_json_may_nest_as_deep_as_said_and_no_deeper() -> None:
    check_json("metadata", nested(MAX_DEPTH), 0)
    with pytest.raises(OutOfBounds, match="nests deeper than 32 levels"):
        check_json("metadata", nested(MAX_DEPTH + 1), 0)
    with pytest.raises(OutOfBounds, match="nests deeper"):
        check_json("metadata", nested(100_000), 0)


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1: 2}, {3}]
)
def test_json_that_no_store_could_keep_is_refused(value: Any) -> None:
    with pytest.raises(OutOfBounds, match="result"):
        check_json("result", {"value": value}, 0)


def test_list_that_holds_itself_is_refused_at_once() -> None:
    endless: list[Any] = []
    endless += [endless] * 10
    with pytest.raises(OutOfBounds):
        check_json("result", endless, 1000)


def test_json_that_is_too_large_is_told_with_both_sizes() -> None:
    with pytest.raises(OutOfBounds, match="has 102 bytes as JSON; at most 64"):
        check_json("result", "x" * 100, 64)


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_cleaned_text_can_always_be_kept(text: str, most: int) -> None:
    cleaned = clean_text(text, most)
    check_text("message", cleaned, most)
    assert orjson.loads(orjson.dumps(cleaned)) == cleaned


def test_validator_names_its_field_and_passes_none() -> None:
    @attrs.frozen
    class Draft:
        source: str | None = attrs.field(default=None, validator=name_of(5))

    Draft(None)
    with pytest.raises(OutOfBounds, match="source must have 1 to 5 characters"):
        Draft("x" * 6)
