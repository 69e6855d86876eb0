"""Where the operator's page is, without a browser."""

from typing import Any

import pytest

from settings import Settings
from tests.api import serving


@pytest.mark.gen_test
async def test_page_holds_no_data_and_may_be_taken_away(
    settings: Settings, redis: Any, database: Any
) -> None:
    async with serving(settings, "") as nobody:
        answer = await nobody.get("/admin")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        again = await nobody.get("/admin", **{"If-None-Match": answer.headers["Etag"]})
        assert again.status == 304
    async with serving(settings.changed(admin_path=""), "") as nobody:
        assert (await nobody.get("/admin")).status == 404
        assert (await nobody.get("/static/admin/app.js")).status == 200


@pytest.mark.parametrize("path", ["/", "admin", "/a b", "/..", "/api", "/static", "/sw.js"])
def test_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="admin_path: "):
        Settings(admin_path=path)


def test_pages_at_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="admin_path: the page is there"):
        Settings(page_path="/admin")
    assert Settings(page_path="/admin", admin_path="/ops").server.page_address == "/admin"
