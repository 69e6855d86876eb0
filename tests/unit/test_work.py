"""Kinds, plans and what an author may say in them."""

import enum
import functools
import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_rt.work import (
    MAX_STEP_LENGTH,
    MOST_LEAVES,
    Kind,
    LeaseLost,
    Plan,
    Rate,
    Retry,
    Schedule,
    Step,
    TaskError,
    clean_text,
    format_label,
)

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
WEIGHTS = st.one_of(st.integers(1, 1000), st.floats(0.001, 1e6))


def unique_steps(children: st.SearchStrategy[list[Step]]) -> st.SearchStrategy[list[Step]]:
    steps = st.builds(Step, NAMES, WEIGHTS, st.text(max_size=5), children)
    return st.lists(steps, min_size=1, max_size=4, unique_by=lambda step: step.name)


PLANS = st.recursive(st.just([]), unique_steps, max_leaves=20).filter(bool).map(Plan)


@attrs.frozen
class Transcode:
    """The parameters of the tests' kind."""

    path: str
    preset: str = "1080p"


class Silent:
    """An object that ends the program when it is looked at."""

    def __str__(self) -> str:
        raise SystemExit


def make_kind(name: str = "video.transcode", params_class: type = Transcode, **more: Any) -> Kind:
    return Kind(name, params_class, **more)


@given(PLANS)
def test_shares_sum_to_one(plan: Plan) -> None:
    assert sum(leaf.share for leaf in plan.leaves) == pytest.approx(1)


@given(PLANS)
def test_plan_is_read_back_from_its_text(plan: Plan) -> None:
    assert Plan.read(plan.text) == plan
    assert Plan.read(plan.text.decode()).digest == plan.digest


@given(PLANS, PLANS)
def test_plans_with_one_digest_are_equal(one: Plan, other: Plan) -> None:
    assert (one.digest == other.digest) == (one == other)


def test_plan_has_a_digest_of_sixteen_digits_that_weights_of_any_type_share() -> None:
    one, other = Plan([Step("a", 5)]), Plan([Step("a", 5.0)])
    assert one.digest == other.digest
    assert len(one.digest) == 16
    assert int(one.digest, 16)


def test_title_is_the_name_unless_it_is_given() -> None:
    assert Step("probe").title == "probe"
    assert Plan([Step("probe")]).digest == Plan([Step("probe", title="probe")]).digest
    assert Plan([Step("probe")]).digest != Plan([Step("probe", title="Probe it")]).digest


def test_inner_steps_share_the_weight_of_the_step_around_them() -> None:
    inner = (Step("audio", 1, "Sound"), Step("video", 3))
    plan = Plan([Step("probe", 20), Step("encode", 80, "Encode", inner)])
    assert [(leaf.name, leaf.share) for leaf in plan.leaves] == [
        ("probe", pytest.approx(0.2)),
        ("audio", pytest.approx(0.2)),
        ("video", pytest.approx(0.6)),
    ]
    assert [leaf.group for leaf in plan.leaves] == [(), ("Encode",), ("Encode",)]
    assert plan.leaves[1].title == "Sound"
    assert plan.leaves[1].path == ("encode", "audio")


def test_steps_without_weights_are_equal_and_may_be_plain_names() -> None:
    plan = Plan(["a", "b", Step("c"), Step("d")])
    assert [leaf.share for leaf in plan.leaves] == [0.25] * 4


def test_step_of_no_weight_is_allowed_beside_others() -> None:
    assert [leaf.share for leaf in Plan([Step("a", 0), Step("b")]).leaves] == [0, 1]


def test_names_and_titles_of_steps_are_cleaned_in_any_language() -> None:
    assert Step("影片", title="Vidéo\n\x00").title == "Vidéo \ufffd"
    assert Step("影片").name == "影片"
    assert len(Step("x" * 999, title="y" * 999).name) == MAX_STEP_LENGTH
    assert Step("\ud800").name == "?"


def nested(levels: int) -> list[Step]:
    return [Step("a", steps=nested(levels - 1))] if levels else []


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Plan([]), "a plan has a step"),
        (lambda: Plan(["a", "a"]), "two steps have the name 'a'"),
        (lambda: Plan([Step("a", steps=["b", "b"])]), "two steps have the name 'b'"),
        (lambda: Plan([5]), "5 is no Step"),
        (lambda: Plan([str(n) for n in range(MOST_LEAVES + 1)]), "at most 1000 steps, not 1001"),
        (lambda: Plan(nested(17)), "steps nest at most 16 levels"),
        (lambda: Step(""), "a step has a name"),
        (lambda: Step(5), "a step has a name"),
        (lambda: Step("a", -1), "the weight of a step"),
        (lambda: Step("a", math.nan), "the weight of a step"),
        (lambda: Step("a", math.inf), "the weight of a step"),
        (lambda: Step("a", True), "the weight of a step"),
        (lambda: Step("a", 10**400), "the weight of a step"),
        (lambda: Step("a", "5"), "the weight of a step"),
    ],
)
def test_what_is_no_plan_is_refused_in_words(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make()


def test_steps_whose_weights_are_all_0_share_alike() -> None:
    """Beside another, a step that weighs 0 has no share."""
    plan = Plan([Step("a", 3, steps=[Step("b", 0), Step("c", 0), Step("d", 0)]), Step("e", 0)])
    assert [leaf.share for leaf in plan.leaves] == [1 / 3, 1 / 3, 1 / 3, 0]
    assert Plan.read(plan.text) == plan
    assert [leaf.share for leaf in Plan([Step("a", 0), Step("b", 0)]).leaves] == [0.5, 0.5]


def test_a_thousand_steps_and_sixteen_levels_are_a_plan() -> None:
    assert len(Plan([str(n) for n in range(MOST_LEAVES)]).leaves) == MOST_LEAVES
    assert len(Plan(nested(16)).leaves) == 1


@pytest.mark.parametrize(
    "text",
    [b"", b"5", b"[]", b"[5]", b"[{}]", b'[{"name":"a"}]', b'[{"name":"a","weight":"1"}]'],
)
def test_text_that_is_no_plan_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Plan.read(text)


def test_deep_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a plan|nest"):
        Plan.read('[{"name":"a","weight":1,"steps":' * 5000 + "[]" + "}]" * 5000)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", Rate(10, 1)),
        ("10/m", Rate(10, 60)),
        ("10/h", Rate(10, 3600)),
        ("1/d", Rate(1, 86400)),
        ("5/30s", Rate(5, 30)),
        ("100/2h", Rate(100, 7200)),
    ],
)
def test_rate_is_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "10", "10/", "/s", "0/s", "5/0s", "-1/s", "1.5/s", "10/w", "10 / s", "9999999/s", 10],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a rate is text as"):
        Rate.parse(text)


@given(st.text("0123456789/smhd. "))
def test_rate_of_any_text_is_read_or_refused(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except ValueError:
        return
    assert rate.count > 0
    assert rate.seconds > 0


def test_kind_has_the_defaults_of_the_design() -> None:
    kind = make_kind()
    assert kind.title == "video.transcode"
    assert (kind.limit, kind.user_limit, kind.key_limit, kind.timeout) == (0, 0, 0, 0)
    assert (kind.max_attempts, kind.retry_errors, kind.backoff) == (3, True, (5.0, 300.0))
    assert kind.plan_of(Transcode("a")) is None
    assert kind.expected_of(Transcode("a")) is None
    assert kind.function is None


def test_kinds_are_equal_by_identity_and_cannot_be_changed() -> None:
    kind = make_kind()
    assert kind != make_kind()
    assert len({kind, make_kind()}) == 2
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind.limit = 5  # type: ignore[misc]


def test_plan_is_made_once_or_for_the_parameters() -> None:
    fixed = make_kind(steps=[Step("probe", 5), Step("transcode", 95)])
    assert fixed.plan_of(Transcode("a")) is fixed.plan_of(Transcode("b"))
    made = make_kind(steps=lambda params: [Step(params.preset)] if params.preset else None)
    assert made.plan_of(Transcode("a", "4k")) == Plan(["4k"])
    assert made.plan_of(Transcode("a", "")) is None
    assert make_kind(steps=[]).plan_of(Transcode("a")) is None
    assert make_kind(steps=(step for step in ["a"])).plan_of(Transcode("a")) == Plan(["a"])


def test_label_is_made_from_the_parameters() -> None:
    params, kept = Transcode("a.mkv"), {"path": "a.mkv", "preset": "1080p"}
    assert make_kind(label="{path} as {preset}").label_of(params, kept) == "a.mkv as 1080p"
    assert make_kind(label=lambda params: params.path.upper()).label_of(params, kept) == "A.MKV"
    assert make_kind(title="Transcode a film").label_of(params, kept) == "Transcode a film"
    assert make_kind(label=lambda params: "").label_of(params, kept) == "video.transcode"
    assert make_kind(label="a film").label_of(params, kept) == "a film"
    assert make_kind(label="{path:>8}{{}}").label_of(params, kept) == "   a.mkv{}"


def test_label_is_one_line_of_two_hundred_characters() -> None:
    path = "a\n\x00" + "b" * 999
    label = make_kind(label="{path}").label_of(Transcode(path), {"path": path})
    assert label.startswith("a \ufffdb")
    assert len(label) == 200


def test_template_is_filled_from_json() -> None:
    assert format_label("{path} as {preset}", {"path": "a", "preset": "b", "more": 1}) == "a as b"
    assert (
        format_label("{a} {b!r} {c:>3}", {"a": [5.0, 0.5], "b": "x", "c": 1}) == "[5, 0.5] 'x'   1"
    )


def test_format_that_json_does_not_have_is_that_of_the_object() -> None:
    moments = {"at": datetime(2026, 1, 2, tzinfo=UTC)}
    kept = {"at": "2026-01-02T00:00:00+00:00", "path": "a"}
    assert format_label("{path} {at:%d.%m.%Y}", kept, moments.__getitem__) == "a 02.01.2026"
    with pytest.raises(ValueError, match="Invalid format"):
        format_label("{path} {at:%d.%m.%Y}", kept)


def test_expected_seconds_are_fixed_or_made_from_the_parameters() -> None:
    params = Transcode("abcd")
    assert make_kind(expected_seconds=60).expected_of(params) == 60
    assert make_kind(expected_seconds=lambda p: len(p.path) * 10.0).expected_of(params) == 40
    assert make_kind(expected_seconds=lambda p: None).expected_of(params) is None
    with pytest.raises(ValueError, match="expected_seconds"):
        make_kind(expected_seconds=lambda p: math.nan).expected_of(params)


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        ({"name": "Video"}, "the name of a kind is 1 to 64"),
        ({"name": ""}, "the name of a kind"),
        ({"name": "a" * 65}, "the name of a kind"),
        ({"name": "a\n"}, "the name of a kind"),
        ({"name": 5}, "the name of a kind"),
        ({"params_class": dict}, "the parameters' class is an attrs class"),
        ({"params_class": Transcode("a")}, "the parameters' class is an attrs class"),
        ({"label": "{size}"}, "the label names 'size', which is no parameter"),
        ({"label": "{}"}, "the label names ''"),
        ({"label": "{path.upper}"}, "the label names 'path.upper'"),
        ({"label": "{path:{preset}}"}, "a format in the label"),
        ({"label": "{path"}, "expected '}'"),
        ({"label": 5}, "the label is text or a function"),
        ({"shown": ["size"]}, "shown names 'size', which Transcode does not have"),
        (
            {
                "params_class": attrs.make_class("Odd", ["path", "preset", "error"]),
                "shown": ["error"],
            },
            "shown names 'error', which each snapshot has for itself",
        ),
        ({"steps": ["a", "a"]}, "two steps have the name 'a'"),
        ({"steps": 5}, "not iterable"),
        ({"limit": -1}, "limit is a whole number from 0 to 999999999999999"),
        ({"limit": 10**15}, "limit is a whole number from 0"),
        ({"version": 10**15}, "version is a whole number from 0"),
        ({"user_limit": 10**15}, "user_limit is a whole number from 0"),
        ({"key_limit": 2**53}, "key_limit is a whole number from 0"),
        ({"max_attempts": 2**53}, "max_attempts is a whole number from 1 to 999999999999999"),
        ({"user_limit": 1.5}, "user_limit is a whole number"),
        ({"key_limit": True}, "key_limit is a whole number"),
        ({"version": None}, "version is a whole number"),
        ({"max_attempts": 0}, "max_attempts is a whole number from 1"),
        ({"rate": "fast"}, "a rate is text as"),
        ({"key_rate": "10/w"}, "a rate is text as"),
        ({"timeout": -1}, "timeout is a number of seconds"),
        ({"timeout": math.inf}, "timeout is a number of seconds"),
        ({"timeout": 1e10}, "timeout is a number of seconds from 0 to 3153600000, 0 for none"),
        ({"retry_errors": 1}, "retry_errors is True or False"),
        ({"backoff": 5}, "backoff is the first and the longest wait"),
        ({"backoff": (5,)}, "backoff is the first and the longest wait"),
        ({"backoff": (10, 5)}, "backoff is the first and the longest wait"),
        ({"backoff": (10, 1e10)}, "backoff is the first and the longest wait"),
        ({"expected_seconds": -1}, "expected_seconds is a number of seconds from 0 to 3153600000"),
        ({"expected_seconds": "60"}, "expected_seconds is a number of seconds"),
        ({"expected_seconds": 1e308}, "expected_seconds is a number of seconds"),
        ({"schedules": [5]}, "schedules are a list of Schedule"),
        (
            {"schedules": [Schedule(name="a", every=5), Schedule(name="a", every=6)]},
            "two schedules have the name 'a'",
        ),
    ],
)
def test_what_is_no_kind_is_refused_in_words(about: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make_kind(**about)


def test_fault_of_a_kind_names_it() -> None:
    with pytest.raises(ValueError, match=r"^kind 'video\.transcode': a rate "):
        make_kind(rate="fast")


def test_handler_is_returned_as_it_is() -> None:
    kind = make_kind()

    @kind.handler
    async def run(params: Transcode, run: object) -> None: ...

    assert kind.function is run
    assert kind.is_async


def plain(params: Transcode, run: object) -> None: ...


async def awaited(params: Transcode, run: object, more: int = 0) -> None: ...


class Callable_:
    async def __call__(self, params: Transcode, run: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (plain, False),
        (awaited, True),
        (functools.partial(awaited, more=1), True),
        (functools.partial(plain), False),
        (Callable_(), True),
        (functools.partial(Callable_()), True),
        (functools.wraps(awaited)(lambda params, run: awaited(params, run)), False),
        (lambda *anything: None, False),
    ],
)
def test_handler_is_any_function_of_two(function: Callable[..., Any], is_async: bool) -> None:
    kind = make_kind()
    assert kind.handler(function) is function
    assert kind.is_async is is_async


def of_one(params: Transcode) -> None: ...


def generator(params: Transcode, run: object) -> Any:
    yield


async def async_generator(params: Transcode, run: object) -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (of_one, r"the handler takes \(params, run\)"),
        (generator, "the handler is a generator: a handler returns its result"),
        (async_generator, "the handler is a generator: a handler returns its result"),
        (functools.partial(generator), "the handler is a generator: a handler returns its result"),
        (Callable_, "the handler is a class, not a function"),
        (5, "the handler is not a function"),
    ],
)
def test_what_is_no_handler_is_refused(function: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make_kind().handler(function)


def test_second_handler_is_refused() -> None:
    kind = make_kind()
    kind.handler(plain)
    with pytest.raises(ValueError, match="has a handler already"):
        kind.handler(plain)


def test_schedule_has_the_defaults_of_the_design() -> None:
    schedule = Schedule(name="nightly", cron="0 3 * * *", timezone="Europe/Berlin")
    assert (schedule.overlap, schedule.missed, schedule.user_id) == ("skip", "last", "system")
    assert make_kind(schedules=[schedule]).schedules == (schedule,)


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        ({"name": "Nightly"}, "the name of a schedule"),
        ({"cron": "", "every": 0}, "either cron or every"),
        ({"every": 5}, "either cron or every"),
        ({"cron": "", "every": -5}, "every is a number of seconds"),
        ({"jitter": "5"}, "jitter is a number of seconds"),
        ({"timezone": "Mars/Olympus"}, "there is no time zone 'Mars/Olympus'"),
        ({"timezone": "../../etc/passwd"}, "there is no time zone"),
        ({"overlap": "both"}, "overlap is one of skip, queue, replace"),
        ({"missed": "none"}, "missed is one of skip, last, all"),
    ],
)
def test_what_is_no_schedule_is_refused(about: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Schedule(**{"name": "nightly", "cron": "0 3 * * *"} | about)


def test_endings_keep_their_text() -> None:
    assert str(TaskError("no such film")) == "no such film"
    retry = Retry("busy", delay=5)
    assert (str(retry), retry.delay) == ("busy", 5)
    assert Retry("busy").delay is None
    assert (str(Retry("busy", 5)), Retry("busy", 5).delay) == ("busy", 5)
    assert issubclass(LeaseLost, Exception)


@pytest.mark.parametrize("delay", [0, 5, 0.5, timedelta(minutes=1)])
def test_retry_may_have_a_delay_alone(delay: Any) -> None:
    for retry in (Retry(delay), Retry(delay=delay), pickle.loads(pickle.dumps(Retry(delay)))):
        assert (str(retry), retry.delay) == ("another attempt was asked for", delay)
    with pytest.raises(TypeError, match="one delay"):
        Retry(delay, 5)


class Colour(enum.StrEnum):
    RED = "red"


def test_object_that_cannot_be_looked_at_is_named() -> None:
    assert clean_text(Silent(), 100) == "<Silent: SystemExit in its text>"
