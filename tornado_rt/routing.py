"""Finding the handler of a request."""

from collections.abc import Sequence
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import Rule, URLSpec
from tornado.web import Application


class RoutedApplication(Application):
    """Finds the handler of a path without arguments at once. Tornado tries one route after another.

    The table of its routes is whole when it is made.
    """

    def __init__(self, table: Sequence[URLSpec], **settings: Any) -> None:
        super().__init__(list(table), **settings)
        self._plain = plain_routes(table)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request."""
        rule = self._plain.get(request.path)
        if rule is None:
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, rule.target, rule.target_kwargs)


def plain_routes(table: Sequence[URLSpec]) -> dict[str, Rule]:
    """Return the routes that have no arguments by their paths, without those that others hide."""
    plain: dict[str, Rule] = {}
    for rule in table:
        path = _path_of(rule)
        if path is not None and _first(table, path) is rule:
            plain[path] = rule
    return plain


def _path_of(rule: URLSpec) -> str | None:
    """Return the path of a rule without arguments, None where its pattern does not tell it."""
    try:
        return None if rule.regex.groups else rule.matcher.reverse()
    except ValueError:
        return None


def _first(table: Sequence[URLSpec], path: str) -> URLSpec | None:
    return next((rule for rule in table if rule.regex.match(path)), None)
