"""The page and its assets."""

import re
from pathlib import Path

from tornado.iostream import StreamClosedError
from tornado.web import StaticFileHandler

from tornado_rt import __version__
from tornado_rt.problems import CONTENT_TYPE, Problem
from tornado_rt.web import BaseHandler
from tornado_rt.work.texts import phrase

STATIC = Path(__file__).resolve().parent.parent / "static"

RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")

NAMED = f"tornado_rt {__version__}: tasks and notifications in real time."
DOCS = "The documentation is in docs/ of its source, README.md first."

# Everything comes from this server but the pictures of notifications; no script or style stands in
# the page itself.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: https:",
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
        self._check_range()
        try:
            await StaticFileHandler.get(self, path, include_body)
        except StreamClosedError:
            raise
        except (ValueError, OSError):
            raise Problem(404, phrase("there is no such file")) from None
        if self.get_status() == 416:
            # `Content-Range` stays, which an error that is raised would clear.
            self.set_header("Content-Type", CONTENT_TYPE)
            self.tell_language(self.read_by.words)
            problem = Problem(416, phrase("the file holds no such range"))
            self.finish(problem.document(self.read_by.words))

    def _check_range(self) -> None:
        """Pass over a range that is none, or that is meant for an earlier version of the file.

        RFC 9110 sections 14.2 and 13.1.5.
        """
        headers = self.request.headers
        if "If-Range" in headers or not RANGE.fullmatch(headers.get("Range", "")):
            headers.pop("Range", None)

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer with the headers; read no file."""
        await self.get(args[0] if args else "", include_body=False)

    def compute_etag(self) -> str | None:
        """Return the file's digest."""
        return StaticFileHandler.compute_etag(self)


class PageHandler(AssetHandler):
    """The page, at the path that the settings give it."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("index.html", include_body)


class NoPageHandler(BaseHandler):
    """`/` where the page is elsewhere, or nowhere: says in two lines what this server is."""

    identifies = False

    async def get(self) -> None:
        page = self.settings["page"]
        there = f"The page is at {page}." if page else f"The API is under {self.at('/api/')}."
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{NAMED}\n{there} {DOCS}\n")

    async def head(self, *_: str, **__: str) -> None:
        await self.get()


class AdminPageHandler(AssetHandler):
    """The operator's page, at the path that the settings give it. It holds no data."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("admin.html", include_body)


class RootHandler(BaseHandler):
    """The prefix without a slash at its end: leads to the page."""

    identifies = False

    async def get(self) -> None:
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(self.at("/") + query, permanent=True)
