"""JSON bodies: what is read, and in which words faults are told, whatever the size."""

from typing import Any

import attrs
import orjson
import pytest

from services.analysis.bodies import SeedBatch, bounded_seed_task
from services.notifications import NotificationDraft
from services.notifications.requests import ActRequest
from services.submissions import TaskBounds, bounded_task
from tests.timing import cpu_seconds
from tornado_rt.json_body import MOST_ITEMS, TOLD_CHARACTERS, TOLD_FAULTS, parse, structure
from tornado_rt.problems import Problem

MEGABYTE = 1 << 20
SeedTask = bounded_seed_task(TaskBounds())
AnyTask = bounded_task(TaskBounds())
# Processor time of the loop that one body may cost [s].
LOOP_SECONDS = 0.1


def errors_of(value: Any, shape: type[Any], **most: int) -> list[str]:
    """Return what is told of a wrong body."""
    with pytest.raises(Problem) as refused:
        structure(value, shape, most)
    assert refused.value.status_code == 422
    assert refused.value.errors is not None
    return refused.value.errors


TASK = {"symbol": "A"}
NOTE = {"user_id": "a", "type": "alert", "title": "x"}
FAULTS: list[tuple[Any, type[Any], str]] = [
    ([1], SeedTask, "the body must be a JSON object"),
    (7, SeedTask, "the body must be a JSON object"),
    (None, SeedTask, "the body must be a JSON object"),
    ("x", dict[str, Any], "the body must be a JSON object"),
    ({}, SeedTask, "symbol is required"),
    ({"symbol": 5}, SeedTask, "symbol must be a string"),
    ({"symbol": ""}, SeedTask, "symbol must have 1 to 64 characters"),
    ({"symbol": "a\nb"}, SeedTask, "symbol must not hold control characters"),
    (TASK | {"delay": "1"}, SeedTask, "delay must be a number"),
    (TASK | {"delay": -1}, SeedTask, "delay must be from 0 to 2592000"),
    (TASK | {"extra": 1}, SeedTask, "unknown fields: extra"),
    (TASK | {"params": None}, SeedTask, "params must be a JSON object"),
    (TASK | {"params": {"a": 1}}, SeedTask, "params has unknown fields: a"),
    (TASK | {"params": {"research_depth": 6}}, SeedTask, "params.research_depth must be from 1"),
    (TASK | {"params": {"research_depth": True}}, SeedTask, "params.research_depth must be an"),
    (TASK | {"params": {"analysts": []}}, SeedTask, "params.analysts must name one or more"),
    (TASK | {"params": {"analysts": ["x"]}}, SeedTask, "params.analysts[0] must be one of mark"),
    (TASK | {"params": {"llm_provider": "\n"}}, SeedTask, "params.llm_provider must not hold"),
    (TASK | {"run_at": "tomorrow"}, SeedTask, "run_at must be a time such as 2026-01-02T03:04"),
    (TASK | {"run_at": "2030-01-01T00:00:00"}, SeedTask, "run_at must have a time zone"),
    ({"symbols": []}, SeedBatch, "symbols must name one or more"),
    ({"symbols": "AAPL"}, SeedBatch, "symbols must be a list"),
    ({"symbols": ["A", "\0"]}, SeedBatch, "symbols[1] must not hold control characters"),
    (NOTE | {"severity": "bad"}, NotificationDraft, "severity must be one of info, success, warn"),
    (NOTE | {"metadata": []}, NotificationDraft, "metadata must be a JSON object"),
    ({"kind": "a", "unique": {"key": "k", "while": 0}}, AnyTask, "unique.while must be"),
    (
        {"kind": "a", "unique": {"scope": 1, "key": "k"}},
        AnyTask,
        "unique has unknown fields: scope",
    ),
    (
        {"kind": "a", "params": {"a": "x" * 65536}},
        AnyTask,
        "params has 65544 bytes as JSON; at most",
    ),
    ({"ids": "x"}, ActRequest, "ids must be a list"),
    ({"all": 1}, ActRequest, "all must be true or false"),
]


@pytest.mark.parametrize(("body", "shape", "told"), FAULTS)
def test_fault_is_told_in_words_for_a_person(body: Any, shape: type[Any], told: str) -> None:
    [error] = errors_of(body, shape)
    assert error.startswith(told)


def test_every_field_at_fault_is_named() -> None:
    body = {"symbol": 5, "delay": -1, "surprise": 1, "params": {"research_depth": 9}}
    told = " ".join(errors_of(body, SeedTask))
    for name in ("symbol", "delay", "surprise", "params.research_depth"):
        assert name in told


def test_what_users_may_rightly_send_is_read() -> None:
    """Ideographic spaces and joined emoji among it."""
    for symbol in ("a\u3000b", "👩‍💻", "1.\u200d", "É", "x" * 64):
        assert structure({"symbol": symbol}, SeedTask).symbol == symbol
        params = {"llm_provider": symbol}
        assert structure({"symbol": "A", "params": params}, SeedTask).params.llm_provider
    assert structure({"symbol": "A", "delay": 1}, SeedTask).delay == 1.0


def test_list_over_its_bound_is_refused_by_its_length_alone() -> None:
    assert errors_of({"symbols": [1] * 101}, SeedBatch, symbols=100) == [
        "symbols must have at most 100 items"
    ]
    assert errors_of({"symbol": "A", "params": {"analysts": [1] * 5}}, SeedTask) == [
        "params.analysts must have at most 4 items"
    ]
    assert errors_of({"ids": [1] * 1001}, ActRequest) == ["ids must have at most 1000 items"]


def test_bound_of_a_list_may_be_raised_and_taken_away() -> None:
    many = {"symbols": ["A"] * 50_000}
    for most in (50_000, 0):
        assert len(structure(many, SeedBatch, {"symbols": most}).symbols) == 50_000


def test_first_faults_are_told_and_the_others_counted() -> None:
    told = errors_of({"symbols": [1] * 100}, SeedBatch, symbols=100)
    assert len(told) == TOLD_FAULTS + 1
    assert told[0] == "symbols[0] must be a string"
    assert told[-1] == "and 80 more"
    assert errors_of({"symbols": [1] * 90_000}, SeedBatch, symbols=0)[-1] == "and more"


def test_unknown_names_are_told_short() -> None:
    [told] = errors_of(TASK | {"x" * 90_000: 1}, SeedTask)
    assert len(told) < TOLD_CHARACTERS
    [told] = errors_of(TASK | {f"n{n}": 1 for n in range(9)}, SeedTask)
    assert told == "unknown fields: n0, n1, n2, n3, n4 and 4 more"


def filled(begin: bytes, piece: bytes, end: bytes) -> bytes:
    """Return a body of a megabyte."""
    count = (MEGABYTE - len(begin) - len(end)) // (len(piece) + 1)
    return begin + b",".join([piece] * count) + end


keys = b",".join(b'"%d":1' % n for n in range(100_000))
LARGE: list[tuple[bytes, type[Any]]] = [
    (filled(b'{"symbols":[', b"1", b"]}"), SeedBatch),
    (filled(b'{"symbols":[', b'""', b"]}"), SeedBatch),
    (filled(b'{"symbols":[', b'"A"', b"]}"), SeedBatch),
    (filled(b'{"symbols":[', b"[[]]", b"]}"), SeedBatch),
    (filled(b'{"symbol":"A","params":{"analysts":[', b'"x"', b"]}}"), SeedTask),
    (b'{"symbol":"A",' + keys + b"}", SeedTask),
    (b'{"symbol":"A","params":{' + keys + b"}}", SeedTask),
    (b'{"symbol":"' + b"x" * MEGABYTE + b'"}', SeedTask),
    (b'{"symbol":"A","run_at":"' + b"9" * MEGABYTE + b'"}', SeedTask),
    (b'{"symbol":"A","callback_url":"http://' + b"[" * MEGABYTE + b'"}', SeedTask),
    (b'{"kind":"a","params":{' + keys + b"}}", AnyTask),
    (b'{"kind":"a","params":{"a":"' + b"x" * MEGABYTE + b'"}}', AnyTask),
    (filled(b'{"kind":"a","tags":[', b"1", b"]}"), AnyTask),
    (b'{"kind":"a","unique":{"key":"' + b"x" * MEGABYTE + b'"}}', AnyTask),
    (b'{"user_id":"a","type":"alert","title":"x","metadata":{' + keys + b"}}", NotificationDraft),
    (
        filled(b'{"user_id":"a","type":"alert","title":"x","metadata":{"a":[', b"1", b"]}}"),
        NotificationDraft,
    ),
    (b'{"title":"' + "é".encode() * (MEGABYTE // 2) + b'"}', NotificationDraft),
    (filled(b'{"ids":[', b"1", b"]}"), ActRequest),
    (filled(b'{"ids":[', b"{}", b"]}"), ActRequest),
    (b"{" + keys + b"}", dict[str, Any]),
    (filled(b"[", b"{}", b"]"), SeedTask),
    (filled(b'{"symbol":[', b"1000000000000000000", b"]}"), SeedTask),
    (b'{"symbol":' + b"1" * MEGABYTE + b".0}", SeedTask),
]


@pytest.mark.parametrize(("body", "shape"), LARGE)
def test_megabyte_of_anything_is_refused_at_once_and_shortly(body: bytes, shape: type[Any]) -> None:
    with cpu_seconds() as taken:
        with pytest.raises(Problem) as refused:
            structure(parse(body), shape, {"symbols": 100})
        assert taken() < LOOP_SECONDS
    assert len(refused.value.document()) < 8192


def test_brackets_in_a_string_are_no_lists() -> None:
    assert parse(b'"' + b'[\\"' * 200_000 + b'"') == '["' * 200_000
    with pytest.raises(Problem, match="422"):
        parse(b"[" + b"[]," * 200_000 + b"[]]")


@pytest.mark.parametrize("integer", [2**63, 2**64, -(2**63) - 1, 10**19, 10**20, -(10**100)])
@pytest.mark.parametrize("text", ["%d", "[%d]", '{"a": %d}', "[0,\n-1, %d]", '["\\"", %d]'])
def test_integer_of_more_than_64_bits_is_refused(integer: int, text: str) -> None:
    """As a float it would be another number."""
    with pytest.raises(Problem, match="422") as refused:
        parse((text % integer).encode())
    assert b"an integer of more than 64 bits" in refused.value.document()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551616.0", 2.0**64),
        ("18446744073709551616e0", 2.0**64),
        ("0.18446744073709551616", 0.18446744073709551616),
        ("1e00000000000000000001", 10.0),
        ('"18446744073709551616"', "18446744073709551616"),
        ('{"\\", 18446744073709551616,": 1}', {'", 18446744073709551616,': 1}),
    ],
)
def test_other_numbers_and_texts_are_read_as_they_are(text: str, value: Any) -> None:
    assert parse(text.encode()) == value


@pytest.mark.parametrize("depth", [33, 200, 1000])
def test_nesting_is_bounded(depth: int) -> None:
    body = orjson.loads(b"[" * depth + b"]" * depth)
    [told] = errors_of({"a": body}, dict[str, Any])
    assert told == "the body nests deeper than 32 levels"


@attrs.frozen
class _Pair:
    """A shape whose fields have to fit together."""

    low: int
    high: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.high is not None and self.high < self.low:
            raise ValueError("high must not be under low")


def test_fields_that_do_not_fit_together_are_told() -> None:
    assert structure({"low": 1, "high": None}, _Pair) == _Pair(1)
    assert errors_of({"low": 2, "high": 1}, _Pair) == ["high must not be under low"]


def test_word_of_python_may_be_a_name_in_json() -> None:
    body = {"kind": "a", "unique": {"key": "k", "while": 2.5, "on_conflict": "reject"}}
    unique = structure(body, AnyTask).unique
    assert unique is not None
    assert (unique.scope, unique.on_conflict) == (2.5, "reject")


def test_value_of_any_shape_has_the_bound_of_its_field() -> None:
    """0 is none, and there is the usual one where the field names none."""
    large = {"kind": "a", "params": {"a": "x" * 70_000}}
    assert structure(large, bounded_task(TaskBounds(params_bytes=0))).params == large["params"]
    small = {"kind": "a", "params": {"a": "x" * 10}}
    [told] = errors_of(small, bounded_task(TaskBounds(params_bytes=10)))
    assert told.startswith("params has 18 bytes as JSON; at most 10")


def test_bound_of_a_submission_may_be_taken_away() -> None:
    free = bounded_task(TaskBounds(**{field.name: 0 for field in attrs.fields(TaskBounds)}))
    body = {
        "kind": "a",
        "label": "x" * 5000,
        "key": "k" * 5000,
        "tags": ["t" * 5000] * 2000,
        "delay": 1e9,
        "timeout": 1e9,
        "max_attempts": 10**6,
    }
    assert structure(body, free).max_attempts == 10**6


@attrs.frozen
class _Names:
    counts: dict[str, int] = attrs.field(factory=dict, metadata={MOST_ITEMS: 2})
    pairs: dict[str, _Pair] = attrs.field(factory=dict)


def test_object_with_any_names_has_values_of_one_type() -> None:
    """Its number of names is looked at before its values."""
    read = structure({"counts": {"a": 1, "": 2}, "pairs": {}}, _Names)
    assert read.counts == {"a": 1, "": 2}
    assert errors_of({"counts": {"a": "1", "b": True}}, _Names) == [
        "counts.a must be an integer",
        "counts.b must be an integer",
    ]
    assert errors_of({"counts": dict.fromkeys("abc", "x")}, _Names) == [
        "counts must have at most 2 fields"
    ]
    assert errors_of({"counts": []}, _Names) == ["counts must be a JSON object"]
    [told] = errors_of({"pairs": {"x" * 10**5: 7}}, _Names)
    assert len(told) <= TOLD_CHARACTERS
    many = {f"n{n}": 7 for n in range(1001)}
    assert errors_of({"pairs": many}, _Names) == ["pairs must have at most 1000 fields"]
