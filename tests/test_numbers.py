"""Numbers in the pages are those of the code."""

import importlib
import re
from pathlib import Path

import pytest

from settings import default
from tests.conftest import ROOT
from tools.language import blocks, sources

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
UNITS = {
    "": 1,
    "B": 1,
    "KB": 1024,
    "KiB": 1024,
    "MiB": 2**20,
    "GiB": 2**30,
    "ms": 0.001,
    "s": 1,
    "seconds": 1,
    "minutes": 60,
    "hours": 3600,
    "days": 86400,
}
UNIT = "|".join(sorted(filter(None, UNITS), key=len, reverse=True))
NUMBER = rf"([0-9][0-9,]*(?:\.[0-9]+)?)(?: ({UNIT}))?"
# "`RT_X` (64 KiB)", and "64 KiB (`RT_X`)".
BEHIND = re.compile(rf"`RT_([A-Z_]+)` \({NUMBER}(?:[,;)]| each| by default)")
BEFORE = re.compile(rf"\b{NUMBER}(?: as JSON)? \(`RT_([A-Z_]+)`\)")

# Lines of: the page, the words around a number, and where the code has it.
SAID = (ROOT / "tests/fixtures/numbers.txt").read_text()


def number(text: str, unit: str = "") -> float:
    return float(text.replace(",", "")) * UNITS[unit]


def in_code(place: str) -> float:
    """Return `module:NAME`, perhaps times or by a number."""
    name, sign, factor = re.fullmatch(r"([\w.:]+)(?:([*/])(\d+))?", place).groups()  # type: ignore[union-attr]
    module, _, constant = name.partition(":")
    value = float(getattr(importlib.import_module(module), constant))
    return value * float(factor) if sign == "*" else value / float(factor or 1)


@pytest.mark.parametrize("row", SAID.strip().split("\n"))
def test_number_is_that_of_the_code(row: str) -> None:
    page, words, place = (part.strip() for part in row.split(" | "))
    text = " ".join((ROOT / "docs" / page).read_text().split())
    before, after = (re.escape(part) for part in words.split("{}"))
    found = re.findall(rf"{before}([0-9][0-9,]*(?:\.[0-9]+)?){after}", text)
    assert found, f"{page} does not say {words!r}"
    assert [number(one) for one in found] == [pytest.approx(in_code(place))] * len(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_number_beside_a_setting_is_its_default(page: Path) -> None:
    text = " ".join(page.read_text().split())
    pairs = [(name, one, unit) for name, one, unit in BEHIND.findall(text)]
    pairs += [(name, one, unit) for one, unit, name in BEFORE.findall(text)]
    wrong = {
        f"RT_{name}: {one} {unit}"
        for name, one, unit in pairs
        if number(one, unit) != float(default(name.lower()))
    }
    assert wrong == set()


def test_many_numbers_stand_beside_their_settings() -> None:
    texts = [" ".join(page.read_text().split()) for page in PAGES]
    assert sum(len(BEHIND.findall(text)) + len(BEFORE.findall(text)) for text in texts) > 20


FOLDERS = "tornado_rt|services|handlers|docs|tests|benchmarks|clients|static|deploy|examples|tools"
NAMED = re.compile(
    rf"(?<![\w/.-])((?:{FOLDERS})/[\w/.-]*\w\.(?:py|md|lua|js|mjs|yaml|json|svg|toml))\b"
)


def test_files_that_comments_name_are_there() -> None:
    missing = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources()
        for line, text in blocks(path)
        for name in NAMED.findall(text)
        if not (ROOT / name).exists() and not (path.parent / name).exists()
    }
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_are_there(page: Path) -> None:
    names = {
        name
        for text in re.findall(r"`([^`\n]+)`", page.read_text())
        for name in NAMED.findall(text)
    }
    assert {one for one in names if not (ROOT / one).exists()} == set()
