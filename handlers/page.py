"""The demo page and its assets."""

from pathlib import Path

from tornado.iostream import StreamClosedError
from tornado.web import StaticFileHandler

from tornado_rt.problems import Problem
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

    identifies = False

    def set_default_headers(self) -> None:
        """Let the browser ask whether the file changed, every time."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")

    async def get(self, path: str, include_body: bool = True) -> None:
        """Answer with the file; a path that no file system takes has none."""
        try:
            await StaticFileHandler.get(self, path, include_body)
        except StreamClosedError:
            raise
        except (ValueError, OSError):
            raise Problem(404, "there is no such file") from None

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer with the headers; read no file."""
        await self.get(args[0] if args else "", include_body=False)

    def compute_etag(self) -> str | None:
        """Return the file's digest."""
        return StaticFileHandler.compute_etag(self)


class PageHandler(AssetHandler):
    """`/`: the page."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("index.html", include_body)
