"""`docs/security.md` is true: each request of its tables, by each who may send it."""

import inspect
import re
import secrets
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from handlers.admin_board import ACT, BULK, WORKER
from handlers.email import USER
from handlers.routes import ID, KIND, VERB, page_routes, routes
from handlers.schedules import SCHEDULE
from services.queue import Ack, Outcome
from settings import Settings, WrittenSettings
from tests.api import Client, frame, frame_of, serving
from tests.conftest import ROOT
from tests.push_service import Device

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs" / "security.md").read_text()
ACTORS = ["anonymous", "owner", "other user", "publisher", "worker", "admin"]
SCOPES = {"publisher": "rt:publish", "worker": "rt:work", "admin": "rt:admin"}
OWNER = "the-owner"

Row = tuple[str, list[str]]
Token = Callable[..., str]


def table(heading: str) -> list[Row]:
    """Return the rows of the table under a heading: what is asked, and each one's answer."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ACTORS
    return [(name.strip("`"), answers) for name, *answers in cells[2:]]


def served() -> set[str]:
    """Return every request that the table of addresses takes."""
    names = inspect.signature(routes).parameters
    found = set()
    admin = ("bulk", "fleet", "log", "overview", "roll", "series")
    parts: dict[str, Any] = {name: {} for name in admin}
    table = routes(**{name: parts if name == "admin" else {} for name in names})
    for rule in [*table, *page_routes("/", "/admin")]:
        path = rule.regex.pattern.rstrip("$").replace("/actions/" + ID, "/actions/{action}")
        path = path.replace(ID, "{id}").replace(KIND, "{kind}").replace(VERB, "{verb}")
        path = path.replace(BULK, "{bulk}").replace(WORKER, "{worker}").replace(ACT, "{act}")
        path = path.replace("/users/" + USER, "/users/{user}")
        path = path.replace("(.*)", "{path}").replace(SCHEDULE, "{name}")
        found |= {f"{method} {path}" for method in methods_of(rule.target)}
    return found


def methods_of(handler: type[RequestHandler]) -> list[str]:
    if issubclass(handler, WebSocketHandler):
        return ["WS"]
    unimplemented = RequestHandler._unimplemented_method
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE")
    return [one for one in methods if getattr(handler, one.lower()) is not unimplemented]


def test_every_route_stands_in_the_table() -> None:
    assert {name for name, _ in table("Routes")} == served()


def test_limits_of_the_page_are_the_defaults_of_the_settings() -> None:
    section = PAGE.partition("## Limits\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|]+\| ([\d.]+) \| `RT_(\w+)` \|", section, re.MULTILINE)
    assert len(rows) >= 16
    defaults = attrs.asdict(WrittenSettings())
    assert [(name, float(defaults[name.lower()])) for _, name in rows] == [
        (name, float(number)) for number, name in rows
    ]


@attrs.define
class Site:
    """A running server, and somebody of each kind."""

    actors: dict[str, Client]

    @property
    def owner(self) -> Client:
        return self.actors["owner"]

    async def ask(self, actor: str, request: str) -> str:
        """Send a request about something fresh of the owner's; return what came of it."""
        method, _, path = request.partition(" ")
        path = path.replace("{path}", "index.html").replace("{kind}", "analysis")
        path = (
            path.replace("{bulk}", "cancel").replace("{worker}", "none").replace("{act}", "drain")
        )
        path = path.replace("{user}", OWNER).replace("{verb}", "read").replace("{action}", "keep")
        if "{id}" in path:
            path = path.replace("{id}", await self.fresh_id(path))
        if "{name}" in path:
            path = path.replace("{name}", await self.fresh_schedule())
        client = self.actors[actor]
        if method == "WS":
            return await opened(client, path)
        if path.endswith("/stream"):
            return await streamed(client, path + "?topics=me")
        answer = await client.send(method, path, BODIES.get(request))
        return str(answer.status)

    async def fresh_id(self, path: str) -> str:
        """Make something for a path, and return its id."""
        if "/dead/" in path or path.endswith("/retry"):
            return await self.die()
        if "/webhooks/" in path:
            return str((await self.owner.post("/api/webhooks", WEBHOOK)).body["id"])
        if "/push/" in path:
            return str((await self.owner.post("/api/push/subscriptions", SUBSCRIPTION)).body["id"])
        made = (
            "tasks" if "/tasks/" in path else "batches" if "/batches/" in path else "notifications"
        )
        answer = await self.owner.post(f"/api/{made}", BODIES[f"POST /api/{made}"])
        return str(answer.body[ID_FIELDS[made]])

    async def fresh_schedule(self) -> str:
        """Make a schedule of the owner's, and return its name."""
        body = BODIES["POST /api/schedules"] | {"name": f"fresh-{secrets.token_hex(4)}"}
        made = await self.owner.post("/api/schedules", body)
        return str(made.body["name"])

    async def die(self) -> str:
        """Make a task that is dead."""
        queue, task_id = self.owner.core.queue, await self.owner.submit()
        claimed = await queue.claim("w", 1000, kinds=["analysis"])
        tokens = {claim.task.task_id: claim.token for claim in claimed.claims}
        again = Ack(task_id, tokens[task_id], Outcome.RETRY, error="no")
        assert await queue.end_attempt(again)
        return task_id


ID_FIELDS = {"tasks": "task_id", "batches": "batch_id", "notifications": "id"}
SCHEDULED = {"every": 3600, "kind": "analysis", "params": {"symbol": "AAPL"}, "overlap": "queue"}
SUBSCRIPTION = Device("a").subscription("https://push.example")
WEBHOOK = {"url": "https://hooks.example"}
BODIES: dict[str, Any] = {
    "POST /api/webhooks": WEBHOOK,
    # Nothing is kept of it.
    "POST /api/webhooks/{id}/redeliver": {"event_id": "e1"},
    "POST /api/push/subscriptions": Device("b").subscription("https://push.example"),
    "POST /api/push/renewals": {
        "endpoint": "https://push.example/c",
        "auth": "AAAA",
        "subscription": SUBSCRIPTION,
    },
    "PUT /api/email": {"on": False},
    "PUT /api/users/{user}/email": {"email": None},
    # Aside, so that none of them waits in the line.
    "POST /api/tasks": {"symbol": "AAPL", "delay": 99},
    "POST /api/batches": {"symbols": ["AAPL"]},
    "POST /api/schedules": SCHEDULED | {"name": "pulse"},
    "PUT /api/schedules/{name}": SCHEDULED,
    "POST /api/notifications": {
        "user_id": OWNER,
        "type": "alert",
        "title": "hello",
        "actions": [{"id": "keep", "label": "Keep it", "answer": True}],
    },
    "POST /api/notifications/{verb}": {"all": True},
    "POST /api/notifications/undo": {"undo": "1"},
    "POST /api/notifications/{id}/snooze": {"seconds": 60},
    "PUT /api/notifications/preferences": {},
    "POST /api/worker/claim": {"worker_id": "w", "kinds": ["nothing"]},
    "POST /api/worker/report": {"items": []},
    "POST /api/worker/extend": {"items": []},
    "POST /api/worker/ack": {"items": []},
    "POST /api/publish": {"topic": "room:1", "data": {"text": "hello"}},
    "POST /api/broadcast": {"type": "alert", "title": "to all"},
    "POST /api/tasks/retry": {"tag": "nothing"},
    "POST /api/admin/tasks/{bulk}": {"ids": ["none"]},
    "POST /api/admin/undo": {"undo": "none"},
    "POST /api/admin/connections/close": {"user": "nobody"},
    "PUT /api/kinds/{kind}/limits": {"limit": 0},
    "POST /api/queue/purge": {"status": "cancelled", "user": "nobody"},
    "PUT /api/queue/limits": {"order": "fifo"},
    "PUT /api/settings": {"sse_heartbeat_interval_seconds": 10},
    "POST /api/auth/demo": {"user_id": "alice"},
}


async def opened(client: Client, path: str) -> str:
    """Open a socket; return "open", or the code that it is closed with."""
    socket = await client.socket(path)
    first = await frame(socket)
    if first["type"] == "connected":
        return "open"
    assert await socket.read_message() is None
    return str(socket.close_code)


async def streamed(client: Client, path: str) -> str:
    """Open an event stream; return its status."""
    stream = await client.stream(path)
    await stream.close()
    return str(stream.status)


@pytest.fixture
def site_settings(settings: Settings, redis: Any, database: Any) -> Settings:
    unlimited = settings.changed(queue_user_limit=0, queue_global_limit=0)
    return unlimited.changed(queue_max_attempts=1, webhooks_per_user=0)


def people(owner: Client, make_token: Token) -> Site:
    """Return a site with a client of each kind."""
    actors = {"owner": owner, "anonymous": owner.as_user("")}
    for actor in ACTORS[2:]:
        name = f"some-{actor.replace(' ', '-')}"
        actors[actor] = owner.as_user(make_token(name, scope=SCOPES.get(actor, "")))
    return Site(actors)


@pytest.mark.gen_test
async def test_every_request_is_answered_as_the_table_says(
    site_settings: Settings, make_token: Token
) -> None:
    async with serving(site_settings, make_token(OWNER)) as owner:
        site = people(owner, make_token)
        rows = table("Routes")
        found = [(name, [await site.ask(actor, name) for actor in ACTORS]) for name, _ in rows]
        assert found == rows


@pytest.mark.gen_test
async def test_every_topic_reaches_whom_the_table_says(
    site_settings: Settings, make_token: Token
) -> None:
    async with serving(site_settings, make_token(OWNER)) as owner:
        site = people(owner, make_token)
        task = await owner.submit(delay=99)
        batch = (await owner.post("/api/batches", BODIES["POST /api/batches"])).body["batch_id"]
        addresses = {
            "task:{id}": f"/api/ws/tasks/{task}",
            "batch:{id}": f"/api/batches/{batch}",
            "app:{name}": "/api/stream?topics=room:1",
            "admin": "/api/stream?topics=admin",
        }
        rows = dict(table("Topics"))
        for topic, path in addresses.items():
            found = [await follows(site.actors[actor], path) for actor in ACTORS]
            assert said(found) == rows[topic], topic
        # `user:{id}` and `broadcast` are in the next test. No address opens the others.
        closed = {"workers", "control", "asked"}
        assert rows.keys() == {*addresses, "user:{id}", "broadcast", *closed}
        assert all(rows[topic] == said([False] * len(ACTORS)) for topic in closed)


def said(found: list[bool]) -> list[str]:
    """Return the cells of a row."""
    return ["yes" if one else "no" for one in found]


async def follows(client: Client, path: str) -> bool:
    if "/ws/" in path:
        return await opened(client, path) == "open"
    return await streamed(client, path) == "200"


@pytest.mark.gen_test
async def test_news_of_one_user_reach_nobody_else_and_a_broadcast_everybody(
    site_settings: Settings, make_token: Token
) -> None:
    async with serving(site_settings, make_token(OWNER)) as owner:
        site = people(owner, make_token)
        known = [actor for actor in ACTORS if actor != "anonymous"]
        sockets = {a: await site.actors[a].socket("/api/ws/notifications") for a in known}
        for socket in sockets.values():
            assert (await frame(socket))["type"] == "connected"
        await owner.post("/api/notifications", BODIES["POST /api/notifications"])
        await site.actors["admin"].post("/api/broadcast", BODIES["POST /api/broadcast"])
        first = {a: (await frame_of(s, "notification"))["data"] for a, s in sockets.items()}
        titles = {actor: data["title"] for actor, data in first.items()}
        assert titles == dict.fromkeys(known, "to all") | {"owner": "hello"}
        assert (await frame_of(sockets["owner"], "notification"))["data"]["title"] == "to all"
        rows = dict(table("Topics"))
        # Without credentials there is no socket: see `WS /api/ws/notifications`.
        assert rows["user:{id}"] == said([titles.get(actor) == "hello" for actor in ACTORS])
        assert rows["broadcast"] == said([actor in titles for actor in ACTORS])


def test_page_names_no_route_twice() -> None:
    names = [name for name, _ in table("Routes")]
    assert len(names) == len(set(names))
    assert not [name for name in names if not re.fullmatch(r"(GET|POST|PUT|DELETE|WS) /\S*", name)]
