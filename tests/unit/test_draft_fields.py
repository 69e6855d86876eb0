"""The fields of a draft beside its texts: what is taken, what is refused, what is read again."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.fields import MOST_EXPIRY_SECONDS, Action, DraftFields, actions_of
from tests.unit.test_json_body import errors_of
from tornado_rt.json_body import structure
from tornado_rt.locales.tags import LOCALE, choose, fallbacks, is_locale
from tornado_rt.protocol import iso_time

GOOD = {"type": "order.sent"}
OPEN = {"id": "open", "label": "Open", "link": "/orders/7"}
YES = {"id": "yes", "label": "Yes", "answer": True}


def from_now(**span: float) -> str:
    return iso_time(datetime.now(UTC) + timedelta(**span))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": ""},
        {"type": "A"},
        {"type": "a b"},
        {"type": "a\n"},
        {"type": "ä"},
        {"type": "x" * 65},
        {"icon": "http://a.example/i.png"},
        {"icon": "data:image/png;base64,AAAA"},
        {"icon": "javascript:alert(1)"},
        {"icon": "//evil.example/i.png"},
        {"icon": "/\\evil.example"},
        {"icon": "https:\\\\evil.example"},
        {"icon": "https:evil"},
        {"icon": "https://"},
        {"icon": "https:///a"},
        {"icon": "https://[::1"},
        {"icon": "https://a.example:99999/"},
        {"icon": "https://a.example:0/"},
        {"icon": "https://a .example/"},
        {"icon": "https://a\u3000.example/"},
        {"icon": "https://a.example/\n"},
        {"icon": "/a\tb"},
        {"icon": " /a"},
        {"icon": ""},
        {"icon": "i.png"},
        {"icon": "/" + "x" * 2000},
        {"icon": "/\ud800"},
        {"image": "http://a.example/i.png"},
        {"image": "ftp://a.example/i.png"},
        {"locale": ""},
        {"locale": "english"},
        {"locale": "de_AT"},
        {"locale": "de-"},
        {"locale": "de\n"},
        {"locale": "x-private"},
        {"locale": "de-a"},
        {"locale": "\u212ao"},
        {"locale": "de-" + "-".join(["variant"] * 5)},
        {"expires_at": "tomorrow"},
        {"expires_at": ""},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"group_key": ""},
        {"group_key": "a\0"},
        {"group_key": "x" * 201},
        {"group_window": 0.5},
        {"group_window": 0},
        {"group_window": 30 * 86400 + 1},
        {"group_window": float("nan")},
        {"group_window": float("inf")},
        {"actions": [Action(id=str(n), label="x", answer=True) for n in range(6)]},
        {"actions": [Action(id="a", label="x", answer=True)] * 2},
    ],
)
def test_what_could_not_be_shown_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        DraftFields(**{**GOOD, **changes})


def test_what_can_be_shown_is_taken() -> None:
    DraftFields(
        type="a-b_c.9" + "x" * 57,
        actions=[Action(**OPEN), Action(id="no", label="Nein " * 20, answer="x" * 200)],
        icon="/icons/a.svg?x=/../b#c",
        image="https://user@cdn.example:8443/%7Ea/./b.png",
        locale="zh-cmn-Hans-CN-x-a",
        expires_at=from_now(days=3650),
        group_key="batch:7",
        group_window=1,
        pinned=True,
    )


def test_time_of_expiry_may_be_in_any_zone() -> None:
    zoned = (datetime.now(UTC) + timedelta(minutes=1)).astimezone().isoformat()
    assert DraftFields(**GOOD, expires_at=zoned).expires_at == zoned
    with pytest.raises(ValueError, match="expires_at must be in the future"):
        DraftFields(**GOOD, expires_at=from_now(seconds=-1))
    with pytest.raises(ValueError, match="expires_at must be at most"):
        DraftFields(**GOOD, expires_at=from_now(seconds=MOST_EXPIRY_SECONDS + 60))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"actions": [{}]}, "actions[0].id is required"),
        ({"actions": "x"}, "actions must be a list"),
        ({"actions": [OPEN] * 6}, "actions must have at most 5 items"),
        ({"actions": [YES, YES]}, "two actions have the name 'yes'"),
        ({"actions": [OPEN | {"id": "A"}]}, "actions[0].id must have 1 to 32 of a-z"),
        ({"actions": [OPEN | {"id": "a.b"}]}, "actions[0].id must have 1 to 32"),
        ({"actions": [OPEN | {"id": "x" * 33}]}, "actions[0].id must have 1 to 32"),
        ({"actions": [OPEN | {"label": ""}]}, "actions[0].label must have 1 to 100 characters"),
        ({"actions": [OPEN | {"label": "a\nb"}]}, "actions[0].label must not hold control"),
        ({"actions": [OPEN | {"link": "javascript:alert(1)"}]}, "actions[0].link must be a path"),
        ({"actions": [OPEN | {"answer": True}]}, "action open must have either link or answer"),
        ({"actions": [{"id": "a", "label": "x"}]}, "action a must have either link or answer"),
        ({"actions": [YES | {"answer": False}]}, "actions[0].answer must be true or a string"),
        ({"actions": [YES | {"answer": 1}]}, "actions[0].answer must be true or a string"),
        ({"actions": [YES | {"answer": ""}]}, "actions[0].answer must have 1 to 200 characters"),
        ({"actions": [YES | {"answer": "x" * 201}]}, "actions[0].answer must have 1 to 200"),
        ({"actions": [YES | {"answer": {"a": "x" * 900}}]}, "actions[0].answer has 9"),
        ({"actions": [YES | {"href": "/"}]}, "actions[0] has unknown fields: href"),
        ({"pinned": 1}, "pinned must be true or false"),
        ({"group_window": "1"}, "group_window must be a number"),
        ({"type": 7}, "type must be a string"),
    ],
)
def test_fault_of_a_body_is_told_with_its_place(body: dict[str, Any], words: str) -> None:
    assert any(one.startswith(words) for one in errors_of(GOOD | body, DraftFields))


def test_actions_are_read_again_as_they_were_sent() -> None:
    sent = [OPEN, YES, {"id": "later", "label": "Later", "answer": "in an hour"}]
    draft = structure(GOOD | {"actions": sent}, DraftFields)
    written = [one.to_dict() for one in draft.actions]
    assert written == sent
    assert actions_of(written) == draft.actions


@pytest.mark.parametrize(
    "stored",
    [None, 7, "x", {}, [None, 7, [], {}], [{"id": 1}], [OPEN | {"link": []}], [YES | OPEN]],
)
def test_stored_action_of_any_shape_is_left_out(stored: Any) -> None:
    assert actions_of(stored) == []


def test_stored_action_of_a_later_version_is_read() -> None:
    assert actions_of([{**OPEN, "style": "danger"}, 7]) == [Action(**OPEN)]
    assert len(actions_of([OPEN] * 9)) == 5


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("de", ["de"]),
        ("de-AT", ["de-at", "de"]),
        ("zh-Hant-TW", ["zh-hant-tw", "zh-hant", "zh"]),
        # RFC 4647 section 3.4 goes this way.
        (
            "zh-Hant-CN-x-private1-private2",
            [
                *("zh-hant-cn-x-private1-private2", "zh-hant-cn-x-private1"),
                *("zh-hant-cn", "zh-hant", "zh"),
            ],
        ),
    ],
)
def test_language_falls_back_part_by_part(written: str, tags: list[str]) -> None:
    assert is_locale(written)
    assert list(fallbacks(written)) == tags


def test_first_language_that_there_is_is_chosen() -> None:
    texts = {"de": 1, "pt-br": 2, "en": 3}
    assert choose(texts, ["de-AT", "en"]) == ("de", 1)
    assert choose(texts, [None, "fr", "PT-BR"]) == ("pt-br", 2)
    # Portuguese of Brazil is not for everybody who reads Portuguese.
    assert choose(texts, ["pt"]) == ("en", 3)
    assert choose({"de": 1}, ["fr", None]) == ("de", 1)


@given(st.text(st.sampled_from("aA1-xz_"), max_size=40))
def test_language_tag_is_looked_at_in_no_time(text: str) -> None:
    assert is_locale(text) == (len(text) <= 35 and bool(LOCALE.fullmatch(text)))
    if is_locale(text):
        assert not re.search(r"[^A-Za-z0-9-]|--|-$", text)
        assert DraftFields(**GOOD, locale=text).locale == text


def test_defaults_are_none_of_all_this() -> None:
    fields = attrs.asdict(DraftFields(type="alert"))
    assert fields.pop("group_window") == 3600
    assert not any(value for name, value in fields.items() if name != "type")
