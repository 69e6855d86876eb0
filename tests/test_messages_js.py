"""The catalogue of the pages and elements: whole, and as `make messages` makes it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, program
from tools import messages_js
from tools.messages_js import LOCALES, Marks, calls_in, messages, modules, read

PLACE = re.compile(r"\{(\w+)\}")
OWN = {one if isinstance(one, str) else one[0]: one for one in messages()}
LANGUAGES = sorted(LOCALES.glob("*.po"))
MADE = modules()


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda one: one.stem)
def test_every_message_has_words_with_the_same_places(file: Path) -> None:
    """A plural has as many forms as its language."""
    catalog = read(file)
    for message in OWN.values():
        known = catalog.get(message[0] if isinstance(message, tuple) else message)
        assert known, message
        said = known.string if isinstance(known.string, tuple) else (known.string,)
        asked = message if isinstance(message, tuple) else (message,)
        assert len(said) == (catalog.num_plurals if isinstance(message, tuple) else 1)
        places = set(PLACE.findall(" ".join(asked)))
        assert all(one and set(PLACE.findall(one)) == places for one in said), message


def test_chinese_is_written_as_chinese() -> None:
    """No half-width stop or comma behind it, and a space between it and Latin letters or digits."""
    for message in read(LOCALES / "zh-CN.po"):
        if message.id in OWN and isinstance(message.string, str):
            assert not re.search(r"[\u4e00-\u9fff][,.:;?!]", message.string), message.string
            assert not re.search(r"[\u4e00-\u9fff][A-Za-z0-9]", message.string), message.string
            assert not re.search(r"[A-Za-z0-9][\u4e00-\u9fff]", message.string), message.string


@pytest.mark.parametrize("file", MADE, ids=lambda one: str(one.relative_to(ROOT)))
def test_module_is_as_it_is_made(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == MADE[file], "run `make messages`"


def test_shipped_files_are_as_they_are_built(tmp_path: Path) -> None:
    """Also the languages beside them."""
    subprocess.run([program("node"), ROOT / "clients/js/build.mjs", tmp_path], check=True)
    for file in (one for one in tmp_path.rglob("*") if one.is_file()):
        shipped = ROOT / "static" / file.relative_to(tmp_path)
        assert file.read_bytes() == shipped.read_bytes(), "run `node clients/js/build.mjs`"


def test_messages_of_a_program_are_found_where_they_stand() -> None:
    """Within others too, and not in words about the code."""
    source = """
      // t("not this one")
      const one = t("a {b}", { b: joined([t("c"), 'd'], t(", ")) });
      const two = tn(count(1, [2, 3]), "{n} e", "{n} es", {});
      export function t(id) { return other.t("nor this"); }
    """
    assert list(calls_in(source)) == ["a {b}", "c", ", ", ("{n} e", "{n} es")]
    with pytest.raises(ValueError, match=r"line 1: a message is a literal, not name"):
        list(calls_in("t(name)"))
    with pytest.raises(ValueError, match="is a literal"):
        list(calls_in('t("a" + b)'))


def test_messages_of_markup_are_its_texts_and_attributes() -> None:
    marks = Marks()
    marks.feed(
        '<p data-t>Two\n  lines</p><input placeholder="Words" data-t="placeholder">'
        '<a title="Where" data-t="text title">There</a><p>not this</p>'
    )
    assert marks.found == ["Two lines", "Words", "Where", "There"]
    with pytest.raises(ValueError, match="has no text"):
        Marks().feed('<p title="" data-t="title"></p>')


def test_update_keeps_what_is_there_and_tells_what_has_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "de.po"
    file.write_text('msgid "a"\nmsgstr "A"\n\nmsgid "of the server"\nmsgstr "vom Server"\n')
    monkeypatch.setattr(messages_js, "messages", lambda: {"a", "b", ("{n} c", "{n} cs")})
    assert messages_js.update(file) == ["b", "{n} c"]
    kept = {one.id: one.string for one in read(file) if one.id}
    assert kept["a"] == "A"
    assert kept["of the server"] == "vom Server"
    assert ("{n} c", "{n} cs") in kept


def test_chinese_adds_no_more_than_this() -> None:
    """A reader of English loads none of it [bytes]."""
    sizes = {file.parent.parent.name: file.stat().st_size for file in MADE}
    assert sizes["src"] < 9000, json.dumps(sizes)
    assert sizes["js"] < 3500, json.dumps(sizes)
    assert sizes["admin"] < 18_000, json.dumps(sizes)
