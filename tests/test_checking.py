"""`run.py check` says what is wrong with a module of kinds."""

import pytest

from services.checking import check_kinds
from services.kinds import KindError, load_kinds
from services.schedules import schedules_of
from tests.modules import GOOD, Write


def test_examples_of_the_tests_have_no_fault() -> None:
    counts, found = check_kinds("tests.kinds_of_tests")
    assert counts == {"tests.kinds_of_tests": 3}
    assert [one for one in found if not one.startswith("warning: ")] == []
    assert check_kinds("none.py") == ({}, ["there is no Python file none.py"])


@pytest.mark.parametrize("name", [".", "..", ".kinds", "kinds.", "a..b", ""])
def test_what_names_no_module_is_said(name: str) -> None:
    told = f"{name!r} names no module: give its name, or the path of its .py file"
    assert check_kinds(name) == ({}, [told])
    with pytest.raises(KindError) as refused:
        load_kinds([name])
    assert refused.value.faults == [told]


CHECKS = [
    ("n: int = 1", "n: int = None", "the class refuses its own default: params.n must be an integ"),
    (
        "n: int = 1",
        "n: int = attrs.field(default=0, validator=attrs.validators.ge(1))",
        "the class refuses its own default: params.n must be at least 1",
    ),
    (
        "n: int = 1",
        "n: int = attrs.Factory(lambda: 1 / 0)",
        "the class refuses its own default: params.n is not valid: ZeroDivisionError",
    ),
    (
        "n: int = 1",
        "n: int = 1\n    def __attrs_post_init__(self): raise ValueError('never')",
        "the class refuses its own default: params is not valid: never",
    ),
    (
        "n: int = 1",
        "n: int = attrs.field(default=2, converter=lambda n: n * 60)",
        "kind 'checked': params.n is stored as 120, and a worker reads that as 7200: its converter"
        " must leave alone what it has made",
    ),
    ("Params)", "Params, steps=lambda params: [params.m])", "steps fails for Params(n=1): Attrib"),
    ("Params)", "Params, steps=lambda params: [5])", "steps fails for Params(n=1): "),
    ("Params)", "Params, label='{n:x>y}')", "label fails for Params(n=1): ValueError"),
    (
        "Params)",
        "Params, expected_seconds=lambda params: 'x')",
        "expected_seconds fails for Params",
    ),
    ("Params)", "Params, steps=['a'], label='{m}')", "the label names 'm', which is no parameter"),
    (
        "Params)",
        "Params, schedules=[Schedule(name='s', cron='61 * * * *')])",
        "schedule 's': cron '61 * * * *' has a bad minute",
    ),
    (
        "Params)",
        "Params, schedules=[Schedule(name='s', every=60, params={'n': 'x', 'm': 1})])",
        "schedule 's': params has unknown fields: m",
    ),
    (
        "Params)",
        "Params, schedules=[Schedule(name='s', cron='* * * * *', timezone='Mars')])",
        "there is no time zone 'Mars'",
    ),
    (
        "Params)",
        "Params, steps=[Step('a', 50), Step('b', 40)])",
        "the weights of the steps sum to 90",
    ),
]


SHOWS_THE_TITLE = (
    "takes the kind's own code: a server that knows this kind by its schema alone shows the title "
    "instead"
)
WARNED: list[tuple[str, str, str]] = [
    ("Params)", "Params, label=lambda params: 'a')", f"the label {SHOWS_THE_TITLE}"),
    ("Params)", "Params, label='{n:x>200}')", f"the format of the label {SHOWS_THE_TITLE}"),
    (
        "n: int = 1\n\nkind = Kind('checked', Params)",
        "n: date = date(2026, 1, 1)\n\nkind = Kind('checked', Params, label='{n:%d.%m.}')",
        f"the format of the label {SHOWS_THE_TITLE}",
    ),
    (
        "n: int = 1",
        "n: UUID = attrs.Factory(uuid4)",
        "the default of n is made anew at each reading: a server that knows this kind by its "
        "schema alone does not store it, and each attempt makes another",
    ),
]


@pytest.mark.parametrize(("old", "new", "told"), WARNED)
def test_what_only_the_code_of_a_kind_can_do_is_warned_of(
    write: Write, old: str, new: str, told: str
) -> None:
    imports = "from datetime import date\nfrom uuid import UUID, uuid4\n"
    source = imports + GOOD.format(name="checked").replace('"', "'")
    assert old in source
    write("kinds_warned.py", source.replace(old, new))
    assert check_kinds("kinds_warned") == (
        {"kinds_warned": 1},
        [f"warning: kind 'checked': {told}"],
    )


@pytest.mark.parametrize("label", ["{n}", "{n:>5}", "{n!r}", "a title"])
def test_label_that_every_server_makes_is_no_cause_to_warn(write: Write, label: str) -> None:
    source = GOOD.format(name="checked").replace("Params)", f"Params, label={label!r})")
    write("kinds_labelled.py", source)
    assert check_kinds("kinds_labelled") == ({"kinds_labelled": 1}, [])


@pytest.mark.parametrize(("old", "new", "told"), CHECKS)
def test_what_is_wrong_with_a_kind_is_told(write: Write, old: str, new: str, told: str) -> None:
    source = GOOD.format(name="checked").replace("import Kind", "import Kind, Schedule, Step")
    write("kinds_checked.py", source.replace(old, new))
    _, found = check_kinds("kinds_checked")
    assert any(told in one for one in found), found


def test_handler_that_yields_is_told(write: Write) -> None:
    handler = "class Handler:\n    async def __call__(self, params, run):\n        yield\n"
    source = GOOD.format(name="x").partition("@kind")[0]
    write("kinds_yielding.py", f"{source}\n{handler}\nkind.handler(Handler())\n")
    _, [told] = check_kinds("kinds_yielding")
    assert told.endswith(
        "kind 'x': the handler is a generator: a handler returns its result, it does not yield"
    )


def test_shares_of_any_sum_are_no_fault(write: Write) -> None:
    source = GOOD.format(name="x").replace("import Kind", "import Kind, Step")
    write(
        "kinds_shares.py",
        source.replace("Params)", "Params, steps=[Step('a', 1), Step('b', 3), Step('c', 1)])"),
    )
    assert check_kinds("kinds_shares")[1] == []


# Arguments of a `Schedule`, and what is told of it.
WRONG_SCHEDULES: list[tuple[str, list[str]]] = [
    (
        "cron='* * * * * *'",
        ["cron must have five fields: minute, hour, day-of-month, month, day-of-week"],
    ),
    ("cron='61 * * * *'", ["cron '61 * * * *' has a bad minute"]),
    ("cron='0 0 30 2 *'", ["cron '0 0 30 2 *' never comes"]),
    ("cron='0 0 */31 2 1L'", ["cron '0 0 */31 2 1L' never comes"]),
    (f"cron='{'0,' * 130}0 * * * *'", ["cron must have 1 to 255 characters"]),
    ("cron=5", ["cron must be a string"]),
    ("every=0.5", ["every must be from 1 to 31622400 s"]),
    ("every=1e9", ["every must be from 1 to 31622400 s"]),
    ("every=60, jitter=1e6", ["jitter must be from 0 to 86400"]),
    ("every=60, jitter=61", ["jitter must be at most every, 60 s"]),
    (
        "every=60, timezone='localtime'",
        ["timezone: localtime is not the same zone on every machine"],
    ),
    ("every=60, user_id=''", ["user_id must have 1 to 255 characters"]),
    ("every=60, user_id='a\\nb'", ["user_id must not hold control characters"]),
    ("every=60, user_id=None", ["user_id must be a string"]),
    ("every=60, label='x' * 201", ["label must have at most 200 characters"]),
    ("every=60, label=None", ["label must be a string"]),
    (
        "every=60, params={'n': 'x', 'm': 1}",
        [
            "params has unknown fields: m",
            "params.n must be an integer",
        ],
    ),
    ("every=60, params={'n': 2**70}", ["params holds an integer of more than 64 bits"]),
    (
        "every=60, jitter=1e6, user_id='', params={'n': 'x'}",
        [
            "jitter must be from 0 to 86400",
            "user_id must have 1 to 255 characters",
            "params.n must be an integer",
        ],
    ),
]


def write_schedules(write: Write, *arguments: str) -> None:
    """Write a kind with schedules of these arguments."""
    schedules = ", ".join(f"Schedule(name='s{n}', {one})" for n, one in enumerate(arguments, 1))
    source = GOOD.format(name="x").replace("import Kind", "import Kind, Schedule")
    write("kinds_timed.py", source.replace("Params)", f"Params, schedules=[{schedules}])"))


@pytest.mark.parametrize(("arguments", "told"), WRONG_SCHEDULES)
def test_schedule_that_the_server_refuses_is_told_in_its_words(
    write: Write, arguments: str, told: list[str]
) -> None:
    write_schedules(write, arguments)
    with pytest.raises(KindError) as refused:
        schedules_of(load_kinds(["kinds_timed"]))
    assert refused.value.faults == [f"kind 'x': schedule 's1': {one}" for one in told]
    assert check_kinds("kinds_timed")[1] == refused.value.faults


UNMADE_SCHEDULES: list[tuple[str, str]] = [
    ("cron='* * * * *', every=60", "it has either cron or every"),
    ("cron=''", "it has either cron or every"),
    ("every=-1", "every is a number of seconds"),
    ("every=float('nan')", "every is a number of seconds"),
    ("every=60, jitter=-1", "jitter is a number of seconds"),
    ("every=60, timezone='Mars'", "there is no time zone 'Mars'"),
    ("every=60, timezone=5", "there is no time zone 5"),
    ("every=60, timezone='../zone'", "there is no time zone '../zone'"),
    ("every=60, overlap='never'", "overlap is one of skip, queue, replace"),
    ("every=60, params=[1]", "params is a dict of the parameters"),
    ("every=60, missed=['all']", "missed is one of skip, last, all"),
]


@pytest.mark.parametrize(("arguments", "told"), UNMADE_SCHEDULES)
def test_schedule_that_cannot_be_made_is_told_by_the_server_and_by_the_check(
    write: Write, arguments: str, told: str
) -> None:
    write_schedules(write, arguments)
    _, [fault] = check_kinds("kinds_timed")
    assert fault.endswith(f"ValueError: schedule 's1': {told}")
    with pytest.raises(KindError) as refused:
        load_kinds(["kinds_timed"])
    assert refused.value.faults == [fault]


def test_every_wrong_schedule_of_a_kind_is_told(write: Write) -> None:
    write_schedules(write, "every=0.5", "every=60", "cron='x'")
    assert [one.partition(": ")[2][:14] for one in check_kinds("kinds_timed")[1]] == [
        "schedule 's1':",
        "schedule 's3':",
    ]
