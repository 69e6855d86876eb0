"""The pages of docs/howto, each followed word for word, and the files beside them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import HttpCredentials, Page, expect

from tests.browsing import chromium
from tests.conftest import ROOT, program
from tests.walks import Walk, blocks_of

pytestmark = pytest.mark.long

HOWTO = ROOT / "docs" / "howto"
# Of the example in FastAPI.
CREDENTIALS: HttpCredentials = {"username": "alice", "password": "wonderland"}


@pytest.fixture
def walk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Walk]:
    """The page that the test names."""
    made = Walk(HOWTO / f"{request.param}.md", tmp_path)
    yield made
    made.close()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page without a fault."""
    with chromium() as browser:
        opened = browser.new_page(http_credentials=CREDENTIALS)
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        yield opened
        assert faults == []


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("walk", [name], indirect=True)


@of("curl")
def test_curl(walk: Walk) -> None:
    walk.follow()
    submitted, _, followed, resumed, read, notified = walk.printed[1:]
    assert '"task_id"' in submitted
    assert "event: finished" in followed
    assert "event: finished" in resumed
    assert '"status":"completed"' in read
    assert "Your order is on its way" in notified


@of("browser")
def test_browser(walk: Walk, page: Page) -> None:
    walk.follow()
    page.goto(walk.printed[-1].strip())
    expect(page.locator("#state")).to_have_text("online")
    page.get_by_role("button", name="Analyse").click()
    expect(page.locator("rt-task [part=status]")).to_have_text("completed")
    expect(page.locator("rt-inbox")).to_contain_text("AAPL")


@of("react")
def test_react(walk: Walk, page: Page) -> None:
    """With React, its DOM and esbuild of the npm registry."""
    program("npm")
    walk.follow()
    page.goto(walk.printed[-1].strip())
    page.get_by_role("button", name="Analyse").click()
    expect(page.get_by_role("heading")).to_have_text("Analysis of AAPL")
    expect(page.get_by_role("status")).to_have_text("completed")


@of("django")
def test_django(walk: Walk, page: Page) -> None:
    walk.follow()
    page.goto(f"http://127.0.0.1:{walk.ports['8000']}/")
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", "wonderland")
    page.click("button")
    order(page)


@of("fastapi")
def test_fastapi(walk: Walk, page: Page) -> None:
    walk.follow()
    page.goto(f"http://127.0.0.1:{walk.ports['8000']}/")
    order(page)


def order(page: Page) -> None:
    """Order an analysis on the page of an example."""
    page.fill("#symbol", "MSFT")
    page.click("#form button")
    expect(page.locator("#message")).to_have_text("completed")
    expect(page.locator("#news")).to_contain_text("Your order of MSFT is completed")


@of("workers-elsewhere")
def test_workers_elsewhere(walk: Walk) -> None:
    program("node")
    walk.follow()
    assert '"pages": 10' in walk.printed[-1] or '"pages":10' in walk.printed[-1]
    assert "counted" in walk.printed[-1]


@of("traces")
def test_traces(walk: Walk) -> None:
    walk.follow()
    for name in ("POST /api/tasks", "send analysis", "process analysis", "send notification"):
        assert name in walk.printed[-1]


@of("languages")
def test_languages(walk: Walk) -> None:
    """The author's texts and the server's, in Chinese."""
    walk.follow()
    missing, told = walk.printed
    assert "zh-CN.po: no text for 'Cut it'" in missing
    assert "a.txt is no film" in told
    for text in ("a.txt 不是影片", '"description":"剪辑"', "没有任务 none"):
        assert text in told


@of("nginx")
def test_tls(walk: Walk) -> None:
    walk.follow()
    assert "ready" in walk.printed[-1]


@of("scaling")
def test_scaling(walk: Walk) -> None:
    walk.follow()
    told, limits = walk.printed[-2:]
    assert '"processes":2' in told
    assert "50" in limits


@of("upgrading")
def test_upgrading(walk: Walk) -> None:
    walk.follow()
    assert (walk.checkout / "data.before" / "jwt_secret").exists()


@of("backup")
def test_backup(walk: Walk) -> None:
    walk.follow()
    assert "Keep me" in walk.printed[-1]


@of("rotating-keys")
def test_rotating_keys(walk: Walk) -> None:
    walk.follow()
    assert walk.printed[-1].endswith("401\n")


@pytest.mark.parametrize(
    ("name", "example"), [("django", "django_site"), ("fastapi", "fastapi_app")]
)
def test_snippets_are_those_of_the_example(name: str, example: str) -> None:
    """`tests/test_neighbours.py` starts them: each stands there word for word."""
    sources = "\n".join(one.read_text() for one in (ROOT / "examples" / example).rglob("*.py"))
    snippets = [one.text for one in blocks_of((HOWTO / f"{name}.md").read_text())]
    python = [one for one in snippets if not one.startswith(("RT_", "pip ", "export "))]
    assert python
    assert [one for one in python if one not in sources] == []


def test_each_page_is_followed() -> None:
    """A new page needs a test here, but for one without a block."""
    source = Path(__file__).read_text()
    pages = {one.stem for one in HOWTO.glob("*.md") if blocks_of(one.read_text())}
    assert pages == set(re.findall(r'@of\("([\w-]+)"\)', source))
