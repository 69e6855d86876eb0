"""A shop on Django and one on FastAPI: their views enqueue work by plain HTTP.

Neither framework is needed to show it: Django's views run under WSGI, FastAPI's under ASGI.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs
from tornado.httpclient import AsyncHTTPClient


@attrs.frozen
class Shop:
    """Orders come in by one view, and each becomes a task of the customer."""

    tasks: str
    callback: str
    token_of: Callable[[str], str]

    def django(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Enqueue in a view that blocks, with what Python brings."""
        order = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        request = urllib.request.Request(
            f"{self.tasks}/api/tasks", json.dumps(self._task(order)).encode(), self._headers(order)
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, content = refusal.code, refusal.read()
        start_response(f"{status} of the queue", [("Content-Type", "application/json")])
        return [content]

    async def fastapi(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Enqueue in a view that awaits."""
        order = json.loads((await receive())["body"])
        answer = await AsyncHTTPClient().fetch(
            f"{self.tasks}/api/tasks",
            method="POST",
            body=json.dumps(self._task(order)),
            headers=self._headers(order),
            raise_error=False,
        )
        await send({"type": "http.response.start", "status": answer.code, "headers": []})
        await send({"type": "http.response.body", "body": answer.body})

    def _task(self, order: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": "shop.invoice",
            "params": {"customer": order["customer"], "cents": order["cents"]},
            "tags": ["shop", f"order-{order['number']}"],
            "callback_url": self.callback,
        }

    def _headers(self, order: dict[str, Any]) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token_of(order['customer'])}",
            "Content-Type": "application/json",
            # The customer may click twice.
            "Idempotency-Key": f"order-{order['number']}",
        }
