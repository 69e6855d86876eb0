"""The list of types, from the setting to the form."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.notifications.configured import BadSetting
from services.notifications.locales import is_locale
from services.notifications.types import BUILT_IN, PUSHED, Ways, load_types

SENT = {
    "type": "order.sent",
    "title": {"en": "Orders on their way", "de": "Bestellungen unterwegs"},
    "description": {"en": "An order has left."},
    "default": {"push": False, "email": True},
}
TOML = """
[[types]]
type = "order.sent"
title = {en = "Orders on their way", de = "Bestellungen unterwegs"}
description = {en = "An order has left."}
default = {push = false, email = true}
"""


def inline(*items: Any) -> str:
    return orjson.dumps(items).decode()


def names_of(setting: str) -> list[str]:
    return [one.type for one in load_types(setting).in_locale(None)]


def test_built_in_types_stand_in_each_of_our_languages() -> None:
    assert names_of("") == ["analysis", "alert", "system", "webhook.disabled"]
    for one in BUILT_IN:
        assert set(one.title) == set(one.description) == {"en", "de", "zh"}


@pytest.mark.parametrize("written", ["inline", "types.json", "types.toml", "table.json"])
def test_setting_is_json_or_a_file(written: str, tmp_path: Path) -> None:
    text = {"types.toml": TOML, "table.json": f'{{"types": {inline(SENT)}}}'}.get(
        written, inline(SENT)
    )
    setting = f"  {text}\n"
    if written != "inline":
        (tmp_path / written).write_text(text)
        setting = str(tmp_path / written)
    types = load_types(setting)
    sent = types.in_locale("de-AT")[-1]
    assert sent.to_dict() == {
        "type": "order.sent",
        "title": "Bestellungen unterwegs",
        # It has none in German.
        "description": "An order has left.",
        "default": {"push": False, "email": True},
    }
    assert types.ways_of("order.sent") == Ways(push=False, email=True)
    assert types.ways_of("order.lost") == PUSHED


def test_own_type_takes_the_place_of_a_built_in_one() -> None:
    quiet = {"type": "system", "title": "Jobs", "default": {"push": False, "email": False}}
    types = load_types(inline(quiet, SENT), "fr")
    listed = types.in_locale("fr")
    assert [one.type for one in listed[2:]] == ["system", "webhook.disabled", "order.sent"]
    assert (listed[2].title, listed[2].description) == ("Jobs", None)
    assert types.ways_of("system") == Ways(push=False, email=False)


def test_text_without_a_language_is_in_the_default_one() -> None:
    plain = {"type": "a", "title": "Eins", "description": "Zwei\nZeilen"}
    [*_, found] = load_types(inline(plain), "de").in_locale("en")
    assert (found.title, found.description, found.default) == ("Eins", "Zwei\nZeilen", PUSHED)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("[", "is not JSON"),
        ("{}", "must be a list, or have one named types"),
        ('{"types": [], "x": 1}', "must be a list, or have one named types"),
        ('{"types": 7}', "must be a list"),
        ("/nowhere/types.toml", "/nowhere/types.toml: no such file"),
        ("/nowhere/types.json", "/nowhere/types.json: no such file"),
        ("[7]", r"types\[0\]: it must be a JSON object"),
        ("[{}]", r"types\[0\]: type is required; title is required"),
        (inline(SENT | {"type": "Order"}), r"types\[0\]: type must have 1 to 64 of a-z"),
        (inline(SENT | {"title": ""}), "title must have 1 to 100 characters"),
        (inline(SENT | {"title": None}), "title must be a string, or have one for each language"),
        (inline(SENT | {"title": {}}), "title must be a string, or have one for each language"),
        (inline(SENT | {"title": 7}), "title must be a string"),
        (inline(SENT | {"title": {"en": 7}}), "title.en must be a string"),
        (inline(SENT | {"title": {"en": "x" * 101}}), "title.en must have 1 to 100 characters"),
        (inline(SENT | {"title": {"en": "a\nb"}}), "title.en must not hold control characters"),
        (inline(SENT | {"title": {"English": "a"}}), "title.english: english is no language tag"),
        (inline(SENT | {"description": "x" * 501}), "description must have at most 500"),
        (inline(SENT | {"default": {"push": True}}), "default.email is required"),
        (inline(SENT | {"icon": "/a"}), "unknown fields: icon"),
        (inline(SENT, SENT), "two types are named order.sent"),
        (inline(*(SENT | {"type": f"t{n}"} for n in range(97))), "there are 101 types; 100 at"),
        (inline(*(SENT | {"type": f"t{n}"} for n in range(101))), "must have at most 100 types"),
    ],
)
def test_what_is_wrong_is_told_at_start(setting: str, words: str) -> None:
    with pytest.raises(BadSetting, match=rf"^notification_types: .*{words}"):
        load_types(setting)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", b"types = 7", "must be a list"),
        ("a.toml", b"types = [", "is not TOML"),
        ("a.toml", b"x = '\xff'", "is not TOML"),
        ("a.json", b"\xff", "is not JSON"),
        ("a.toml", b"[[types]]\ntitle = 'x'", r"a.toml: types\[0\]: type is required"),
    ],
)
def test_fault_in_a_file_names_the_file(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSetting, match=rf"{name}: .*{words}|{words}"):
        load_types(str(tmp_path / name))
    with pytest.raises(BadSetting, match="directory"):
        load_types(str(tmp_path))


def test_languages_of_built_in_texts_are_language_tags() -> None:
    assert all(is_locale(locale) for one in BUILT_IN for locale in one.title)
