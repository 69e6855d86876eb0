"""The made files of `docs/` are as `make docs` makes them, and whole."""

import http

import pytest

from docs.made import ERROR_CODES, GENERAL, RESYNCS, errors_page, events_page, made, metrics_page
from handlers.routes import PROBLEMS
from settings import Settings
from tests.api import serving
from tests.conftest import ROOT
from tests.documents import load_once
from tornado_rt.protocol import ErrorCode, ResyncReason

PAGES = {path.relative_to(ROOT).as_posix(): path for path in made()}


@pytest.mark.parametrize("name", PAGES)
def test_file_is_as_make_docs_makes_it(name: str) -> None:
    assert PAGES[name].read_text() == made()[PAGES[name]], "run `make docs`"


def test_reference_has_no_other_page() -> None:
    pages = {path.name for path in (ROOT / "docs" / "reference").iterdir()}
    assert pages == {path.name for path in PAGES.values() if path.parent.name == "reference"}


def test_errors_are_all_there() -> None:
    page = errors_page()
    documented = {
        int(status)
        for item in load_once("openapi")["paths"].values()
        for operation in item.values()
        for status in operation["responses"]
        if int(status) >= 400
    }
    assert documented <= GENERAL.keys() | set(PROBLEMS.values())
    assert all(http.HTTPStatus(one).phrase in page for one in documented)
    assert ERROR_CODES.keys() == set(ErrorCode)
    assert RESYNCS.keys() == set(ResyncReason)


def test_events_are_all_there() -> None:
    page = events_page()
    for message in load_once("asyncapi")["components"]["messages"].values():
        assert f"| `{message['name']}` | {message['summary']} |" in page


@pytest.mark.gen_test
async def test_metrics_are_those_of_a_server(settings: Settings) -> None:
    async with serving(settings, "") as client:
        text = (await client.get("/metrics")).body.decode()
    words = [line.split() for line in text.splitlines() if line.startswith("# TYPE rt_")]
    # `_created` says since when a counter counts.
    served = {(name, kind) for _, _, name, kind in words if not name.endswith("_created")}
    page = metrics_page()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `rt_")]
    assert {(name.strip("| `"), kind) for name, kind, *_ in rows} == served
