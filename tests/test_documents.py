"""The documentation holds together: links, languages, names of settings, texts of the program."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest

from settings import WrittenSettings
from tests.conftest import ROOT
from tests.walks import blocks_of

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "services/queue/README.md")),
    *sorted(ROOT.glob("clients/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
TRANSLATED = {
    ROOT / "README.md": ROOT / "README.zh-CN.md",
    **{one: DOCS / "zh-CN" / "howto" / one.name for one in sorted(DOCS.glob("howto/*.md"))},
}
# Variables that are no settings: of commands, of `make test` and of examples.
VARIABLES = {"RT_CONFIG", "RT_URL", "RT_TOKEN", "RT_FAULT_SEED"}
MOST_LINES = 120


def told(path: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(path: Path) -> list[tuple[str, str]]:
    """Return the depth and the text of each heading."""
    return re.findall(r"^(#+) (.+)$", told(path), re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the names of the headings of a page, as links have them."""
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for _, title in headings(path)]
    return {one.replace(" ", "-") for one in plain}


def links(path: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(((?!https?:|mailto:)[^)\s]+)\)", told(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", TRANSLATED, ids=shown)
def test_both_languages_say_the_same(page: Path) -> None:
    """They have the same code, headings, tables and links."""
    other = TRANSLATED[page]
    assert blocks_of(other.read_text()) == blocks_of(page.read_text())
    assert [depth for depth, _ in headings(other)] == [depth for depth, _ in headings(page)]
    rows = [len(re.findall(r"^\|", told(one), re.MULTILINE)) for one in (page, other)]
    assert rows[0] == rows[1]
    # A picture of the page may be one in Chinese.
    ends = [
        sorted(Path(link).name.replace(".zh.", ".") for link in links(one)) for one in (page, other)
    ]
    ends = [[link for link in one if not link.startswith("README.")] for one in ends]
    assert ends[0] == ends[1]
    assert re.search("[\u4e00-\u9fff]", other.read_text())
    # A span of code is a name or a text of the program: it is not translated.
    spans = [sorted(re.findall(r"`[^`\n]+`", told(one))) for one in (page, other)]
    assert spans[0] == spans[1]


def test_each_translation_has_its_page() -> None:
    assert set((DOCS / "zh-CN").rglob("*.md")) == set(TRANSLATED.values()) - {
        ROOT / "README.zh-CN.md"
    }


def test_readme_is_short() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        assert len((ROOT / name).read_text().splitlines()) <= MOST_LINES


def test_map_names_every_page() -> None:
    named = {(DOCS / link).resolve() for link in links(DOCS / "README.md")}
    pages = {*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")} - {DOCS / "README.md"}
    assert {one.resolve() for one in pages} - named == set()


def test_words_of_the_glossary_stand_once_and_in_the_code() -> None:
    page = (DOCS / "glossary.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    rows = [row for row in rows if row[1] not in ("in the code", "---")]
    words = [word for names, _ in rows for word in names.split(", ")]
    assert len(words) == len(set(words)) > 50
    for _, places in rows:
        for path, name in re.findall(r"`([\w/.]+)`(?:: `(\w+)`)?", places):
            source = (ROOT / path).read_text()
            assert not name or re.search(rf"^class {name}\b", source, re.MULTILINE), (path, name)


def test_named_settings_exist() -> None:
    """Each `RT_` name in the pages of this kind is a setting, or is known to be none."""
    known = {f"RT_{field.name.upper()}" for field in attrs.fields(WrittenSettings)} | VARIABLES
    pages = [*TRANSLATED, *TRANSLATED.values(), DOCS / "tutorial.md", DOCS / "architecture.md"]
    found = {name for page in pages for name in re.findall(r"\bRT_[A-Z_]+", page.read_text())}
    assert found - known == set()


def test_symptoms_are_texts_of_the_program() -> None:
    """The texts in the first column of the page of symptoms stand in the source."""
    folders = ("tornado_rt", "services", "handlers", "examples")
    source = "\n".join(
        path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")
    )
    page = (DOCS / "howto" / "troubleshooting.md").read_text()
    firsts = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    texts = [text for first in firsts for text in re.findall(r"`([^`\"]+ [^`\"]+)`", first)]
    assert len(texts) > 15
    # The name of a class of parameters is a variable there.
    assert [text for text in texts if text.removeprefix("params ") not in source] == []


@pytest.mark.parametrize("path", sorted((DOCS / "images").glob("*.svg")), ids=lambda one: one.stem)
def test_picture_is_a_picture_with_words(path: Path) -> None:
    """It has a title and a description for those who do not see it, and a dark form."""
    root = ElementTree.parse(path).getroot()
    names = {child.tag.rpartition("}")[2] for child in root}
    assert {"title", "desc"} <= names
    assert "prefers-color-scheme: dark" in path.read_text()
