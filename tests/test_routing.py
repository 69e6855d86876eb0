"""Finding handlers: a path without arguments at once, and the same that Tornado finds."""

import inspect
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.routing import URLSpec
from tornado.web import Application

from handlers.routes import page_routes, routes, under
from tornado_rt.routing import RoutedApplication, plain_routes
from tornado_rt.web import BaseHandler, NotFoundHandler


class One(BaseHandler):
    """Stands for any handler."""


class Two(BaseHandler):
    """Stands for another one."""


def found(application: Application, path: str) -> tuple[Any, ...]:
    """Return the handler of a path, and what it is given."""
    line = RequestStartLine("GET", path, "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "x"}))
    delegate: Any = application.find_handler(request)
    return delegate.handler_class, delegate.handler_kwargs, delegate.path_args, delegate.path_kwargs


def product_table(prefix: str) -> list[URLSpec]:
    names = inspect.signature(routes).parameters
    names_of_parts = ("bulk", "fleet", "log", "overview", "roll", "series")
    parts: dict[str, Any] = {name: {} for name in names_of_parts}
    given: dict[str, Any] = {name: {"name": name} for name in names} | {"admin": parts}
    return under(prefix, [*routes(**given), *page_routes("/", "/admin")])


def test_each_path_of_the_product_has_the_handler_that_tornado_finds() -> None:
    for prefix in ("", "/r.t"):
        table = product_table(prefix)
        ours = RoutedApplication(table, default_handler_class=NotFoundHandler)
        theirs = Application(list(table), default_handler_class=NotFoundHandler)
        plain = plain_routes(table)
        assert f"{prefix}/api/ws/notifications" in plain
        assert len(plain) > 40
        others = ["/", "/nothing", "/api/tasks/1", "/api/tasks/retry", "/static/x.js", "*", "/rxt"]
        for path in [*plain, *others, *(prefix + one for one in others)]:
            for asked in (path, f"{path}?a=b", f"{path}/", path.upper()):
                assert found(ours, asked) == found(theirs, asked), asked


def test_route_that_another_hides_is_not_found() -> None:
    table = [
        URLSpec(r"/a/(.*)", One),
        URLSpec(r"/a/b", Two),
        URLSpec(r"/c.d", Two),
        URLSpec(r"/c\.d", One),
        URLSpec(r"/e/?", Two),
        URLSpec(r"/\d+", Two),
    ]
    assert plain_routes(table) == {"/c.d": table[2]}
    ours = RoutedApplication(table, default_handler_class=NotFoundHandler)
    assert found(ours, "/a/b")[0] is One
    assert found(ours, "/c.d")[0] is found(ours, "/cxd")[0] is Two
    assert found(ours, "/e")[0] is found(ours, "/e/")[0] is found(ours, "/7")[0] is Two
    assert found(ours, "/e/?")[0] is Two
