"""The demo page and its assets."""

import hashlib
import re
from pathlib import Path

import orjson
from tornado.iostream import StreamClosedError
from tornado.web import StaticFileHandler

from tornado_rt.problems import CONTENT_TYPE, Problem
from tornado_rt.protocol import RECONNECT, RECONNECT_RANGES
from tornado_rt.web import BaseHandler

STATIC = Path(__file__).resolve().parent.parent / "static"

RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")

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
            raise Problem(404, "there is no such file") from None
        if self.get_status() == 416:
            # `Content-Range` stays, which an error that is raised would clear.
            self.set_header("Content-Type", CONTENT_TYPE)
            self.finish(Problem(416, "the file holds no such range").document())

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
    """`/`: the page."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("index.html", include_body)


class RootHandler(BaseHandler):
    """The prefix without a slash at its end: leads to the page."""

    identifies = False

    async def get(self) -> None:
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(self.at("/") + query, permanent=True)


def protocol_module(error_event: str) -> bytes:
    """Return the JavaScript module of what the page needs to know of the protocol."""
    exported = {
        "RECONNECT": RECONNECT,
        "RECONNECT_RANGES": RECONNECT_RANGES,
        "ERROR_EVENT": error_event,
    }
    lines = [f"export const {name} = {orjson.dumps(exported[name]).decode()};" for name in exported]
    return "\n".join(
        ["/** The server's own tables, from tornado_rt/protocol.py. */", *lines, ""]
    ).encode()


class ProtocolHandler(BaseHandler):
    """`/static/js/protocol.js`: an asset that no file holds."""

    identifies = False

    def initialize(self, error_event: str) -> None:
        self._module = protocol_module(error_event)

    def set_default_headers(self) -> None:
        """Let the browser ask whether it changed, every time."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")

    def compute_etag(self) -> str | None:
        """Return the module's digest."""
        return f'"{hashlib.sha256(self._module).hexdigest()}"'

    async def get(self) -> None:
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(self._module)
