"""Where the page stands, and what stands at `/` where it is elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest

from settings import Settings
from tests.api import serving

Token = Callable[..., str]


@pytest.fixture
def idle(settings: Settings, redis: Any, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("path", "told"), [("/app", "The page is at /app."), ("", "The API is under /api/.")]
)
async def test_root_says_in_two_lines_what_the_server_is(
    idle: Settings, make_token: Token, path: str, told: str
) -> None:
    """The links of tasks lead to the page, or there are none."""
    settings = idle.changed(page_path=path)
    async with serving(settings, make_token("alice")) as alice:
        root = await alice.get("/")
        assert root.headers["Content-Type"] == "text/plain; charset=utf-8"
        first, second = root.body.decode().splitlines()
        assert first.startswith("tornado_rt 0.")
        assert second.startswith(told)
        assert "docs/" in second
        body = {"symbol": "AAPL", "delay": 3600}
        links = (await alice.post("/api/tasks", body)).body["links"]
        if path:
            assert b"<rt-submit" in (await alice.get(path)).body
            assert links["page"].startswith("/app?task=")
        else:
            assert "page" not in links


@pytest.mark.parametrize("path", ["app", "/api", "/static", "/healthz", "/a/b", "/..", "/sw.js"])
def test_path_that_is_none_or_taken_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="page_path: write it as /app"):
        Settings(page_path=path)


def test_page_address_has_the_prefix() -> None:
    assert Settings(prefix="/rt").server.page_address == "/rt/"
    assert Settings(prefix="/rt", page_path="/app").server.page_address == "/rt/app"
    assert Settings(prefix="/rt", page_path="").server.page_address == ""
