"""The catalogue is whole: no text for an end user is outside of it, and each language says all."""

import ast
import importlib
import pickle
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.routes import PROBLEMS
from services.schedules.times import ScheduleFault
from tests.conftest import ROOT
from tools import messages_js
from tools.messages import OURS, catalogues, find_messages
from tornado_rt.auth import AuthError
from tornado_rt.bounds import OutOfBounds
from tornado_rt.census import TooManyConnections
from tornado_rt.keys import KeysUnavailable
from tornado_rt.locales.__main__ import main
from tornado_rt.locales.catalogue import BadCatalogue, Translation, Words, places_of, read_file
from tornado_rt.locales.extraction import MARKS, find_marked, update
from tornado_rt.problems import Problem, problem_of
from tornado_rt.work import clean_line
from tornado_rt.work.texts import Stored, Text, phrase

pytestmark = pytest.mark.long

# Functions whose argument at this place is what an end user reads; beside them, each error that is
# answered with what it says.
SAID = {
    "error_message": 1,
    "error": 1,
    "_complain": 1,
    "_refuse": 1,
    "wrong": 0,
    "at_place": 1,
    "refused": 0,
    "errored": 0,
    "failed": 0,
    "TaskError": 0,
    "Retry": 0,
    "HTTPInputError": 0,
}
# These have a status before it.
WITH_STATUS = {"Problem", "GoingAway"}
# Members and arguments that have texts.
NAMED = {"errors", "faults", "error", "words"}
# These speak to operators and authors alone (docs/decisions/0019-languages.md).
ENGLISH = (
    *("tornado_rt/command/", "tornado_rt/testing.py", "services/console.py"),
    *("services/notifications/configured.py", "services/notifications/types.py"),
    *("tornado_rt/work/kept.py", "tornado_rt/work/attempts/threads.py"),
)
# Said only of a setting, at start.
OF_SETTINGS = {"BadSetting", "TemplateRequest"}
# Errors that are answered with what they say, beside those of the services.
ANSWERED = (Problem, AuthError, OutOfBounds, TooManyConnections, KeysUnavailable, ScheduleFault)
ANSWERED += tuple(PROBLEMS)
CHINESE = re.compile("[\u4e00-\u9fff]")
# These have no words of their own to be said in Chinese.
WORDLESS = {", ", "; ", "{first}; {second}", "{name}: {error}", "{place}: {error}"}
WORDLESS |= {"{place} {words}", "{place}: {words}", 'expected {{"type": ..., "data": {{...}}}}'}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield our modules, with their paths."""
    for folder in OURS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = str(file.relative_to(ROOT))
            if not path.startswith(ENGLISH):
                yield path, ast.parse(file.read_text(encoding="utf-8"))


def answered() -> set[str]:
    """Return the names of the errors that are answered with what they say."""
    found = {"Problem"}
    for path, tree in modules():
        for one in ast.walk(tree):
            if isinstance(one, ast.ClassDef) and is_answered(path, one.name):
                found.add(one.name)
    return found


def is_answered(path: str, name: str) -> bool:
    """Say whether a class is of errors that end users read."""
    module = importlib.import_module(
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    )
    cls = getattr(module, name, None)
    said = (
        *PROBLEMS,
        Problem,
        AuthError,
        OutOfBounds,
        TooManyConnections,
        KeysUnavailable,
        ScheduleFault,
    )
    return isinstance(cls, type) and issubclass(cls, said) and name not in OF_SETTINGS


def untold(tree: ast.Module, errors: set[str]) -> Iterator[str]:
    """Yield what a module says to end users that is no message of the catalogue."""
    sources: dict[str, list[ast.expr]] = {
        target.id: [one.value]
        for one in tree.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef) and one.name not in MARKS:
            returns = (each.value for each in ast.walk(one) if isinstance(each, ast.Return))
            sources[f"{one.name}()"] = [each for each in returns if each is not None]
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    for call in (one for one in ast.walk(tree) if isinstance(one, ast.Call)):
        for text in said_by(call, errors):
            for part in parts_of(text, sources):
                yield f"line {call.lineno}: {ast.unparse(part)[:80]}"


def said_by(call: ast.Call, errors: set[str]) -> Iterator[ast.expr]:
    """Yield the arguments of a call that end users read."""
    name = name_of(call)
    if name == "__init__" and class_of(call) in errors:
        name = class_of(call)
    elif name == "add" and owner_of(call) == "faults":
        yield from call.args[:1]
    place = (
        1
        if name == "Problem" or class_of(call) == "GoingAway"
        else 0
        if name in errors
        else SAID.get(name)
    )
    if place is not None:
        yield from call.args[place : place + 1]
        yield from (one.value for one in call.keywords if one.arg in NAMED)


def parts_of(text: ast.expr, sources: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """Yield the literals that a text is made of.

    `sources`: those of the names of the module, and what its functions return.
    """
    name = text.id if isinstance(text, ast.Name) else ""
    if isinstance(text, ast.Call):
        name = f"{name_of(text)}()"
    if name in sources:
        rest = {other: one for other, one in sources.items() if other != name}
        for one in sources[name]:
            yield from parts_of(one, rest)
    elif isinstance(text, ast.IfExp):
        yield from parts_of(text.body, sources)
        yield from parts_of(text.orelse, sources)
    elif isinstance(text, ast.BoolOp):
        for one in text.values:
            yield from parts_of(one, sources)
    elif isinstance(text, ast.List | ast.Tuple):
        for one in text.elts:
            yield from parts_of(one, sources)
    elif (
        isinstance(text, ast.JoinedStr)
        or (isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add))
        or (isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value.strip())
    ):
        yield text


def name_of(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def owner_of(call: ast.Call) -> str:
    return getattr(getattr(call.func, "value", None), "id", "")


def class_of(node: ast.AST) -> str:
    """Return the name of the class in whose body something is."""
    while (node := getattr(node, "parent", None)) is not None:  # type: ignore[assignment]
        if isinstance(node, ast.ClassDef):
            return node.name
    return ""


def test_all_that_end_users_read_is_in_the_catalogue() -> None:
    """An error that is answered, a fault, an error frame and a reason are messages."""
    errors = answered()
    assert len(errors) > 30
    found = [f"{path}: {one}" for path, tree in modules() for one in untold(tree, errors)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        'raise Problem(400, "that is wrong")',
        'raise Problem(400, f"{name} is wrong")',
        'raise Problem(400, phrase("fine"), errors=["that is wrong"])',
        'raise OutOfBounds("that is wrong" if bad else phrase("fine"))',
        'faults.add(f"{place} is wrong")',
        'self._complain(code, "that is wrong")',
        'WRONG = "that is wrong"\nraise Problem(400, WRONG)',
        'def words():\n return f"{name} is wrong"\nraise Problem(400, words())',
        'class QueueFull(Exception):\n def __init__(self):\n  super().__init__(f"at most {limit}")',
    ],
)
def test_text_outside_the_catalogue_is_found(code: str) -> None:
    """The check above sees each sort of text."""
    assert list(untold(ast.parse(code), {"Problem", "OutOfBounds", "QueueFull"}))


def test_each_language_says_every_message() -> None:
    """With the same places; in Chinese it has Chinese characters."""
    messages = find_messages()
    assert len(messages) > 400
    for file in catalogues():
        told = read_file(file)
        assert not messages.keys() - told.keys(), file
        for message in messages:
            said = told[message]
            assert places_of(message) == places_of(said.text), (file, message)
            if file.stem.startswith("zh") and message not in WORDLESS:
                assert CHINESE.search(said.text), (file, message, said.text)


def test_catalogue_is_as_make_messages_writes_it(tmp_path: Path) -> None:
    """It is sorted, has no message that the code says no more, and marks what is stored."""
    messages = find_messages()
    others = [messages_js.first(one) for one in messages_js.messages()]
    for file in catalogues():
        copy = tmp_path / file.name
        shutil.copy(file, copy)
        assert update(copy, messages, others) == []
        assert copy.read_bytes() == file.read_bytes(), f"{file.name}: run make messages"


def test_notifications_have_texts_in_each_language() -> None:
    """Each language of the catalogue has the notifications of the queue and of the server."""
    folder = ROOT / "services/notifications/texts"
    names = [set(leaves(tomllib.loads(one.read_text()))) for one in sorted(folder.glob("*.toml"))]
    assert all(one == names[0] for one in names)
    languages = {one.stem for one in folder.glob("*.toml")}
    assert {one.stem.partition("-")[0] for one in catalogues()} <= languages


def leaves(table: dict[str, object], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where the texts stand, without their language."""
    for name, value in table.items():
        if isinstance(value, dict) and "title" not in value:
            yield from leaves(value, (*path, name))
        else:
            yield path


def test_message_is_a_literal() -> None:
    """`make messages` finds it nowhere else."""
    with pytest.raises(ValueError, match="takes a literal"):
        list(find_marked(ast.parse("phrase(f'{a}')")))
    assert set(MARKS) == {"phrase", "stored_phrase", "msgid"}


def test_author_collects_the_texts_of_a_module(tmp_path: Path) -> None:
    """It keeps translations, drops messages that are gone, and gives an f-string places."""
    module, folder = tmp_path / "films.py", tmp_path / "texts"
    module.write_text(
        'kind = Kind("film", Film, title="Cut", steps=["open", Step("cut", 1, "Cut it")])\n'
        'run.update(0.5, f"{done} of {len(films)} films, {run.attempt:d}", unit="films")\n'
        "raise TaskError(f\"{', '.join(names)} {{are}} no films\")\n"
        'a = field(metadata={"title": "Sort", "titles": {"raw": "As it is", Cut.FINE: "Fine"}})\n'
        'b = field(metadata={"description": "Seconds", "examples": ["none"], **more})\n',
        encoding="utf-8",
    )
    assert main([str(folder), str(module), "--language", "zh-CN"]) == 1
    file = folder / "zh-CN.po"
    found = file.read_text(encoding="utf-8")
    assert re.findall(r'^msgid "(.*)"', found, re.MULTILINE) == [
        *("As it is", "Cut", "Cut it", "Fine", "Seconds", "Sort", "cut", "films", "open"),
        "{done} of {films} films, {attempt}",
        "{names} {{are}} no films",
    ]
    file.write_text(found.replace('msgid "Cut"\nmsgstr ""', 'msgid "Cut"\nmsgstr "剪"'))
    module.write_text('kind = Kind("film", Film, title="Cut")\n')
    assert main([str(folder), str(module)]) == 0
    assert read_file(file, is_own=True).keys() == {"Cut"}


def test_stored_text_is_known_by_its_form() -> None:
    """The closest form wins; values are said too; what nobody knows stays as it is."""
    told = {
        "{n} of {m} films": Translation("{m} 部影片中的 {n} 部", is_form=True),
        "{n} films": Translation("{n} 部影片", is_form=True),
        "{a}: {b}": Translation("{a}：{b}", is_form=False),
        "failed: {reason}": Translation("失败：{reason}", is_form=True),
    }
    words = Words("zh-CN", told)
    assert words.recall("3 of 7 films") == "7 部影片中的 3 部"
    assert words.recall("failed: 3 films") == "失败：3 部影片"
    assert words.recall("one: two") == "one: two"
    assert words.recall("3 films\n" * 200) == "3 films\n" * 200
    assert words.say(Stored("3 films")) == "3 部影片"
    assert words.say("3 films") == "3 films"


def test_text_keeps_what_it_says_on_its_way() -> None:
    """Through an error, a bound of its length, a cleaning, a process."""
    text = phrase("at {place}: {error}", place="a\nb", error=phrase("{n} films", n=3))
    told = str(ValueError(text))
    assert isinstance(told, Text)
    assert (told, told.msgid) == ("at a\nb: 3 films", "at {place}: {error}")
    assert clean_line(text, 100) == "at a b: 3 films"
    words = Words("zh-CN", {"{n} films": Translation("{n} 部影片", is_form=True)})
    assert words.say(clean_line(text, 10)) == "at a b: 3…"
    assert words.say(pickle.loads(pickle.dumps(text))) == "at a\nb: 3 部影片"
    assert text == "at a\nb: 3 films"


def test_translation_with_other_places_is_refused(tmp_path: Path) -> None:
    """It would be found when somebody reads it."""
    file = tmp_path / "de.po"
    file.write_text('msgid "{a} of {b}"\nmsgstr "{a}"\n', encoding="utf-8")
    with pytest.raises(BadCatalogue, match="other places"):
        read_file(file)


def test_titles_of_problems_are_in_the_catalogue() -> None:
    """A status that is answered has a title there."""
    messages = find_messages()
    for status in (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 426, 429, 500, 503):
        document = problem_of(None, {}, status)
        assert document.detail in messages
