"""The kept form of an author's values."""

import json
import math
import threading
from datetime import UTC, date, datetime, time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.queue import Outcome
from tests.kind_deeds import VALUES
from tests.kinds_of_tests import Nothing
from tornado_rt.testing import run_task
from tornado_rt.work import Kind, Run, SyncRun
from tornado_rt.work.attempts.endings import end_with_result
from tornado_rt.work.kept import LEAST_INTEGER, MOST_INTEGER, NotKept, as_kept

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(LEAST_INTEGER, MOST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)
# Beside JSON, what an author may return.
ODD = (
    st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=3)
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.uuids()
)
ANYTHING = st.recursive(
    SCALARS | ODD,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner)
    ),
    max_leaves=10,
)


@given(JSON)
def test_json_is_kept_as_it_is(value: Any) -> None:
    """Every reader gets the same."""
    text = as_kept("it", value, 0)
    assert json.loads(text) == orjson.loads(text) == value


def fault_of_result(value: Any) -> str:
    ending = end_with_result(value, 0, any_json=True)
    return ending.error if ending.outcome != Outcome.COMPLETED else ""


def fault_of_once(value: Any) -> str:
    try:
        SyncRun(None, lambda coroutine: coroutine.close()).once("a", lambda: value)
    except ValueError as error:
        return str(error).replace("of once 'a' ", "")
    return ""


def fault_of_state(value: Any) -> str:
    run = Run()
    run.state["x"] = value
    try:
        run.check_state()
    except ValueError as error:
        told = str(error).replace("run.state cannot be kept: it", "the result")
        return told.replace(", at .x", ", at ").removesuffix(", at ")
    return ""


def fault_in_a_test(value: Any) -> str:
    kind = Kind("returns", Nothing)
    kind.handler(lambda params, run: value)
    error = run_task(kind, {}).error
    return "" if error is None else str(error)


@given(ANYTHING)
def test_every_door_refuses_the_same_in_the_same_words(value: Any) -> None:
    fault = fault_of_result(value)
    assert fault_of_once(value) == fault
    assert fault_of_state(value) == fault


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_test_of_an_author_judges_results_as_the_worker(number: int) -> None:
    value, _, fault = VALUES[number]
    assert fault_in_a_test(value) == fault_of_result(value)
    assert fault_of_result(value) == (f"the result {fault}" if fault else "")


def test_result_in_a_test_has_at_most_the_bytes_of_the_server() -> None:
    assert fault_in_a_test("x" * 262_142) == ""
    assert fault_in_a_test("x" * 300_000) == (
        "the result has 300002 bytes as JSON; at most 262144 are allowed"
    )


def test_time_is_text() -> None:
    assert as_kept("it", [time(1, 2), date(2026, 1, 2), datetime(2026, 1, 2)], 0) == (
        b'["01:02:00","2026-01-02","2026-01-02T00:00:00"]'
    )


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": [0, {"b": {1}}]}, "it is not JSON: JSON has no set, at .a[1].b"),
        ({"x" * 99: math.inf}, f"it holds a number that JSON does not have: inf, at .{'x' * 39}…"),
        ({"a\nb": 2**64}, "it holds an integer of more than 64 bits, at .a b"),
    ],
)
def test_fault_says_where_in_one_short_line(value: Any, fault: str) -> None:
    with pytest.raises(NotKept) as refused:
        as_kept("it", value, 0)
    assert str(refused.value) == fault


def test_value_that_changes_meanwhile_is_read() -> None:
    """By a thread of its handler."""
    value: dict[str, int] = {}
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for number in range(100):
                value[str(number)] = number
            value.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(2000):
            as_kept("it", value, 0)
    finally:
        over.set()
        thread.join()
