"""The demo page and its assets."""

import hashlib
from pathlib import Path

import orjson
from tornado.iostream import StreamClosedError
from tornado.web import StaticFileHandler

from tornado_rt.problems import Problem
from tornado_rt.protocol import RECONNECT, RECONNECT_RANGES
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
