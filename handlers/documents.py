"""`/api/openapi.…` and `/api/asyncapi.…`: the interface of this server, for programs."""

import functools
import hashlib
from pathlib import Path

import orjson
from tornado.routing import URLSpec

from tornado_rt.web import BaseHandler

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"
NAMES = ("openapi", "asyncapi")
# RFC 9512 names the first.
MEDIA_TYPES = {"yaml": "application/yaml", "json": "application/json"}
# The first of its kind in each document: where the server is.
ROOT = b'"/"'


@functools.cache
def document(name: str, prefix: str) -> tuple[bytes, str]:
    """Return a file of `docs/` for a server under a prefix, "" for none, and its entity tag."""
    text = (DOCUMENTS / name).read_bytes().replace(ROOT, orjson.dumps(prefix or "/"), 1)
    return text, f'"{hashlib.sha256(text).hexdigest()}"'


class DocumentHandler(BaseHandler):
    """A document, `name`, which names the prefix of this server."""

    identifies = False

    def initialize(self, name: str) -> None:
        self._name = name

    def set_default_headers(self) -> None:
        """Let clients ask whether it changed, every time."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-cache")

    def compute_etag(self) -> str | None:
        """Return the document's digest."""
        return document(self._name, self.at(""))[1]

    async def get(self) -> None:
        self.set_header("Content-Type", MEDIA_TYPES[self._name.rpartition(".")[2]])
        self.finish(document(self._name, self.at(""))[0])


def document_routes() -> list[URLSpec]:
    """Return the routes of the documents, each as YAML and as JSON."""
    names = [f"{name}.{ending}" for name in NAMES for ending in MEDIA_TYPES]
    return [URLSpec(f"/api/{name}", DocumentHandler, {"name": name}) for name in names]
