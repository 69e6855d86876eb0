"""The demo page and its assets."""

from pathlib import Path

from tornado.web import StaticFileHandler

from tornado_rt.web import BaseHandler

STATIC = Path(__file__).resolve().parent.parent / "static"

# Everything comes from this server; no script or style stands in the page itself.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    ]
)


class AssetHandler(BaseHandler, StaticFileHandler):
    """A file under `static/`."""

    async def prepare(self) -> None:
        """Ask nobody who asks."""

    def set_default_headers(self) -> None:
        """Let the browser ask whether the file changed, every time."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")


class PageHandler(AssetHandler):
    """`/`: the page."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("index.html", include_body)

    async def head(self, path: str = "") -> None:
        await self.get("index.html", include_body=False)
