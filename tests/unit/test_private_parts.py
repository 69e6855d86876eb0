"""The private parts of libraries that the product uses are still there."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

OURS = ("tornado_rt", "services", "handlers")
# Methods of a library that a class of ours has in place of its own.
OVERRIDDEN = {
    ("jwt.api_jws.PyJWS", "_decode_base64url_segment"),
    ("redis.asyncio.connection.AbstractConnection", "_connect"),
    ("redis.asyncio.connection.Connection", "_connect"),
    ("tornado.http1connection.HTTP1Connection", "_can_keep_alive"),
    ("tornado.http1connection.HTTP1Connection", "_deliver_body"),
    ("tornado.http1connection.HTTP1Connection", "_finish_request"),
    ("tornado.http1connection.HTTP1Connection", "_read_chunked_body"),
    ("tornado.http1connection.HTTP1ServerConnection", "_server_request_loop"),
    ("tornado.web.RequestHandler", "_cross_origin_protection"),
    ("tornado.web.RequestHandler", "_execute"),
    ("tornado.web.RequestHandler", "_handle_request_exception"),
    ("tornado.web.RequestHandler", "_stream_request_body"),
}
# Attributes that a class of a library has, and that we read, call or set.
USED = {
    "argparse": ("_actions",),
    "attr._make": ("_validators",),
    "attr.validators": ("_original_options",),
    "multiprocessing.forkserver": ("_forkserver", "_forkserver_alive_fd", "_forkserver_pid"),
    "pymongo.synchronous.monitor": ("_shutdown_resources",),
    "redis.asyncio.connection.AbstractConnection": ("_writer",),
    "redis.asyncio.connection.BlockingConnectionPool": (
        "_available_connections",
        "_in_maintenance",
        "_in_use_connections",
    ),
    "tornado.http1connection.HTTP1Connection": (
        *("_finish_future", "_max_body_size", "_read_body", "_read_finished"),
        *("_request_headers", "_request_start_line", "_write_finished"),
    ),
    "tornado.iostream.BaseIOStream": ("_consume", "_read_buffer", "_read_buffer_size"),
    "tornado.web": ("_body_future",),
    "tornado.web.RequestHandler": (
        *("_finished", "_headers", "_headers_written", "_unimplemented_method"),
    ),
}
# Access by another name than `self`; our own classes reach into theirs by these names too.
# Modules of libraries with private names.
MODULES = ("opentelemetry.sdk._shared_internal",)
# The first three are documented: of a named tuple, and of `os`.
OWN = {"_asdict", "_replace", "_exit", "_of"}
ACCESS = re.compile(r"\b(?!self\b|cls\b)\w+\.(_[a-z]\w*)\b")


def overridden() -> Iterator[tuple[str, str]]:
    """Yield the private methods of libraries that our classes define."""
    for name in OURS:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            module = importlib.import_module(found.name)
            for ours in vars(module).values():
                if inspect.isclass(ours) and ours.__module__ == found.name:
                    yield from _private_parts(ours)


def _private_parts(ours: type) -> Iterator[tuple[str, str]]:
    for base in ours.__mro__[1:]:
        if base.__module__.partition(".")[0] in {"redis", "tornado", "jwt", "pymongo", "motor"}:
            for name in vars(ours).keys() & vars(base).keys():
                if re.fullmatch(r"_(?!abc_)[a-z]\w*", name):
                    yield f"{base.__module__}.{base.__name__}", name


def test_overridden_methods_are_those_that_we_know() -> None:
    """One that a library renames is gone from here: ours would never be called."""
    assert set(overridden()) == OVERRIDDEN


@pytest.mark.parametrize("place", USED)
def test_attribute_is_still_there(place: str) -> None:
    try:
        part = importlib.import_module(place)
    except ImportError:
        module, _, name = place.rpartition(".")
        part = getattr(importlib.import_module(module), name)
    source = inspect.getsource(part)
    for base in getattr(part, "__mro__", ())[1:-1]:
        source += inspect.getsource(base) if base.__module__.startswith("redis") else ""
    for name in USED[place]:
        assert re.search(rf"\b{name}\b", source), f"{place} has no {name}"


@pytest.mark.parametrize("name", MODULES)
def test_module_is_still_there(name: str) -> None:
    assert importlib.import_module(name)


def test_each_private_part_that_is_reached_into_is_known() -> None:
    known = {name for names in USED.values() for name in names} | {name for _, name in OVERRIDDEN}
    known |= {name.rpartition(".")[2] for name in MODULES}
    unknown = set()
    for folder in OURS:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            ours = set(re.findall(r"self\.(_[a-z]\w*)\b", text)) | set(
                re.findall(r"def (_[a-z]\w*)", text)
            )
            for name in ACCESS.findall(text):
                if name not in known | ours | OWN:
                    unknown.add(f"{path.relative_to(ROOT)}: {name}")
    assert unknown == set()
