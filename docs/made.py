"""The files of `docs/` that are made: of the documents, and of the code. `make docs` writes them.

`tests/test_made_docs.py` compares them with what is there.
"""

import http
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric
from prometheus_client.registry import Collector

from docs.drawings import drawings
from handlers.routes import PROBLEMS
from services.gauges import QueueGauges
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import CLOSE_CODES, RECONNECT, ErrorCode, ResyncReason

DOCS = Path(__file__).resolve().parent
NAMES = ("openapi", "asyncapi")
MADE = "<!-- Made of the code by `make docs`. -->\n"
# Statuses that no error of a service has, and what leads to them.
GENERAL: dict[int, str] = {
    400: "The request is malformed: its head, an argument, a cursor, or a body that is not JSON",
    401: "No, bad or expired credentials; `WWW-Authenticate` says why",
    403: "A scope is missing, or a page of another site asks",
    404: "There is no such address, or it belongs to another user",
    405: "The address does not have this method; `Allow` names those that it has",
    408: "The head or the body came too slowly",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body has a Content-Encoding",
    416: "The file holds no such range",
    422: "The content is not valid; `errors` has the first faults",
    426: "The address is that of a WebSocket, and the request is no handshake of version 13",
    429: "Too many requests of one address, connections, or waiting tasks; `Retry-After` says when",
    431: "The head of the request is too large",
    500: "A fault of the server; it is in the log",
    503: "A store does not answer, it took too long, or the server stops; see `Retry-After`",
}
ERROR_CODES: dict[ErrorCode, str] = {
    ErrorCode.BAD_MESSAGE: "the frame is not a JSON object with a `type`",
    ErrorCode.BAD_REQUEST: "the `data` is not valid; the message names the faults",
    ErrorCode.UNKNOWN_TYPE: "there is no message of this type here",
    ErrorCode.TOKEN_EXPIRED: "the token has expired; the connection ends",
    ErrorCode.BAD_TOKEN: "the new token is not valid, or another user's",
    ErrorCode.NOT_FOUND: "there is no such thing, or it belongs to another user",
    ErrorCode.CONFLICT: "the state does not allow it",
    ErrorCode.FORBIDDEN: "a scope or a pattern of the token is missing",
    ErrorCode.TOO_MANY_CONNECTIONS: "a bound of connections or of waiting requests is reached",
    ErrorCode.DEGRADED: "a store does not answer: try again",
    ErrorCode.IDLE: "nothing happened for a long time; the event stream ends",
    ErrorCode.GOING_AWAY: "the server stops; the event stream ends",
    ErrorCode.INTERNAL: "a fault of the server; it is in the log",
}
RESYNCS: dict[ResyncReason, str] = {
    ResyncReason.TRIMMED: "the log no longer reaches back to the cursor",
    ResyncReason.EPOCH: "the log of the cursor was lost, or is another",
    ResyncReason.LIMIT: "more was missed than is replayed at once",
}


def made() -> dict[Path, str]:
    """Return what each made file has to say."""
    pages: dict[str, Callable[[], str]] = {
        "errors": errors_page,
        "events": events_page,
        "metrics": metrics_page,
    }
    documents = {DOCS / f"{name}.json": as_json(name) for name in NAMES}
    documents |= {DOCS / "images" / f"{name}.svg": svg for name, svg in drawings().items()}
    return documents | {DOCS / "reference" / f"{name}.md": make() for name, make in pages.items()}


def read(name: str) -> dict[str, Any]:
    """Return a document."""
    found: dict[str, Any] = yaml.load((DOCS / f"{name}.yaml").read_text(), yaml.CSafeLoader)
    return found


def as_json(name: str) -> str:
    """Return a document as JSON, which refers to the others as JSON."""
    text = json.dumps(read(name), ensure_ascii=False, separators=(",", ":"))
    return text.replace("./openapi.yaml#", "./openapi.json#") + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def errors_page() -> str:
    """Return the page of the problem documents and the errors of sockets."""
    statuses = ([str(one), http.HTTPStatus(one).phrase, told] for one, told in GENERAL.items())
    services = sorted({(status, _words(error)) for error, status in PROBLEMS.items()})
    causes = ([str(status), http.HTTPStatus(status).phrase, words] for status, words in services)
    codes = ([f"`{code}`", ERROR_CODES[code]] for code in ErrorCode)
    return f"""{MADE}
# Errors

An error of HTTP is a problem document (RFC 9457), `application/problem+json`, with the members
`type`, `title`, `status`, `detail`, and for a body that is not valid `errors`. `type` is
`about:blank`: the title is that of the status.

## Problems by status

{table(["status", "title", "cause"], statuses)}
## Problems of single requests

{table(["status", "title", "cause"], causes)}
## Errors of connections

A WebSocket and an event stream say `error` (on a stream its name is `problem`) with one of these.

{table(["code", "meaning"], codes)}"""


def _words(error: type[BaseException]) -> str:
    text = (inspect.getdoc(error) or error.__name__).partition("\n")[0]
    return text.rstrip(".")


def events_page() -> str:
    """Return the page of the messages, by channel, and of the close codes."""
    document, parts = read("asyncapi"), []
    for name, channel in document["channels"].items():
        parts.append(f"## {channel['title']}: `{channel['address']}`\n\n{channel['description']}\n")
        for action, told in (("send", "from the server"), ("receive", "from the client")):
            rows = _messages(document, name, action)
            parts.append(table([told, "", "with an id"], rows))
    codes = (
        [code, CLOSE_CODES.get(code, "not sent by the server"), "yes" if back else "no"]
        for code, back in RECONNECT.items()
    )
    reasons = ([f"`{one}`", RESYNCS[one]] for one in ResyncReason)
    return f"""{MADE}
# Messages and close codes

Frames of a WebSocket are `{{"type", "data", "id"?}}`. [asyncapi.yaml](../asyncapi.yaml) has the
schemas of all of them. Event streams bring the same data: [openapi.yaml](../openapi.yaml) names the
events of each in `x-events`.

{chr(10).join(parts)}
## Reasons of a resync

{table(["reason", "meaning"], reasons)}
## Close codes

{table(["code", "meaning", "come back"], codes)}"""


def _messages(document: dict[str, Any], channel: str, action: str) -> Iterator[Sequence[str]]:
    messages = document["components"]["messages"]
    for operation in document["operations"].values():
        if operation["action"] != action or not operation["channel"]["$ref"].endswith(channel):
            continue
        for one in operation["messages"]:
            message = messages[one["$ref"].rpartition("/")[2]]
            payload = message["payload"]
            has_id = "id" in payload["properties"]
            always = "yes" if "id" in payload["required"] else "may have one"
            yield [f"`{message['name']}`", message["summary"], always if has_id else ""]


class _Seen(Metrics):
    """Metrics that tell what they hold."""

    def families(self) -> Iterator[Metric]:
        """Yield each family, with or without values."""
        for collector in self._registry._collector_to_names:
            yield from collector.collect()

    def labels(self) -> dict[str, Sequence[str]]:
        """Return the labels of the families that are of this process."""
        held = self._registry._collector_to_names
        return {one._name: one._labelnames for one in held if hasattr(one, "_labelnames")}


def metrics_page() -> str:
    """Return the page of the metrics."""
    metrics = _Seen()
    of_queue: Any = QueueGauges(*[None] * 2, metrics)  # type: ignore[arg-type]
    labels = dict(metrics.labels())
    rows = sorted(_row(one, labels, of_queue) for one in metrics.families())
    return f"""{MADE}
# Metrics

`/metrics` has these in the text format of Prometheus. [operations.md](../operations.md#watching-it)
says what to look at.

{table(["name", "type", "labels", "meaning"], rows)}"""


def _row(family: Metric, labels: dict[str, Sequence[str]], of_queue: Collector) -> Sequence[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    named = labels.get(family.name, getattr(family, "_labelnames", ()))
    told = ", ".join(f"`{one}`" for one in named)
    return [f"`{name}`", family.type, told, family.documentation]


def write() -> None:
    """Write all of them."""
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write()
