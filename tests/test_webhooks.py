"""Webhooks over HTTP, and what a running server posts to real receivers."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import orjson
import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook as Verifier
from tornado.httputil import HTTPServerRequest

from settings import Settings
from tests.api import Answer, Client, serving
from tests.receiving import Received, receiving
from tests.waiting import until
from tornado_rt.auth import ADMIN

ATTEMPTS = 11


@pytest.fixture
def open_settings(settings: Settings, database: Any, redis: Redis) -> Settings:
    """Settings of a server whose deliveries may reach this machine, and are repeated at once."""
    return settings.changed(callback_allow_private=True, delivery_retry_scale=1e-5)


@attrs.frozen
class Site:
    """A server, its users, and a receiver with its address."""

    alice: Client
    bob: Client
    admin: Client
    received: Received
    url: str

    async def make(self, user: Client | None = None, **body: Any) -> dict[str, Any]:
        """Make a webhook of ends, of Alice or of another user; return it with its secret."""
        made = {"url": self.url, "events": ["task.*", "batch.*"], **body}
        answer = await (user or self.alice).post("/api/webhooks", made)
        assert answer.status == 201, answer.body
        told: dict[str, Any] = answer.body
        return told

    async def read(self, webhook: dict[str, Any], user: Client | None = None) -> dict[str, Any]:
        """Return a webhook as it is now."""
        answer = await (user or self.alice).get(f"/api/webhooks/{webhook['id']}")
        assert answer.status == 200, answer.body
        read: dict[str, Any] = answer.body
        return read

    async def act(self, webhook: dict[str, Any], verb: str, body: Any = None) -> Answer:
        """Do something with one of Alice's."""
        return await self.alice.post(f"/api/webhooks/{webhook['id']}/{verb}", body)

    async def answers(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the receiver of one of Alice's has answered, the newest first."""
        found: list[dict[str, Any]] = (await self.read(webhook))["answers"]
        return found


@contextlib.asynccontextmanager
async def site(
    settings: Settings, make_token: Callable[..., str], statuses: list[int]
) -> AsyncIterator[Site]:
    received = Received(statuses)
    async with receiving(received) as url, serving(settings, make_token("alice")) as alice:
        bob, admin = make_token("bob"), make_token("root", scope=ADMIN)
        yield Site(alice, alice.as_user(bob), alice.as_user(admin), received, url)


async def end(user: Client, **more: Any) -> str:
    """Submit a task and cancel it; return its id."""
    task_id = await user.submit(delay=999, **more)
    assert (await user.delete(f"/api/tasks/{task_id}")).status == 200
    return task_id


async def end_quietly(user: Client) -> str:
    """End a task of whose end its user wants no notification; return its id."""
    body = {"kind": "analysis", "params": {"symbol": "A"}, "delay": 999, "notify": False}
    made = await user.post("/api/tasks", body)
    assert made.status == 202, made.body
    task_id: str = made.body["task_id"]
    assert (await user.delete(f"/api/tasks/{task_id}")).status == 200
    return task_id


def event_of(request: HTTPServerRequest) -> dict[str, Any]:
    """Return the event that was posted."""
    event: dict[str, Any] = orjson.loads(request.body)
    return event


def verified(request: HTTPServerRequest, secret: str) -> dict[str, Any]:
    """Return the event after checking its signature as a receiver would, by the public library."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    event: dict[str, Any] = Verifier(secret).verify(request.body, headers)
    return event


@pytest.mark.gen_test
async def test_webhook_is_told_of_an_end_with_a_signature(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """The library of Standard Webhooks verifies it, and we compute it once by hand."""
    async with site(open_settings, make_token, [200]) as here:
        made = await here.make()
        task_id = await end(here.alice)
        [request] = await until(lambda: here.received.requests)
        event = verified(request, made["secret"])
        assert (event["type"], event["user_id"]) == ("task.cancelled", "alice")
        assert event["data"]["task_id"] == task_id
        assert request.headers["webhook-id"] == task_id
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
        key = base64.b64decode(made["secret"].removeprefix("whsec_"))
        assert len(key) == 32
        signed = f"{task_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
        signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{signature}"


@pytest.mark.gen_test
async def test_webhook_is_told_of_a_quiet_end(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """It is no news to its user; for the tasks of a batch the batch's end tells it."""
    async with site(open_settings, make_token, [200] * 9) as here:
        await end_quietly(here.alice)
        await here.make()
        quiet = await end_quietly(here.alice)
        batch_id = (await here.alice.post("/api/batches", {"symbols": ["A", "B"]})).body["batch_id"]
        assert (await here.alice.delete(f"/api/batches/{batch_id}")).status == 200
        await until(lambda: len(here.received.requests), equal=2)
        told = [event_of(one)["data"] for one in here.received.requests]
        assert {one["task_id"] or one["batch_id"] for one in told} == {quiet, batch_id}
        page = (await here.alice.get("/api/notifications")).body
        assert [one["metadata"]["batch_id"] for one in page["items"]] == [batch_id]


@pytest.mark.gen_test
async def test_secret_is_told_once(open_settings: Settings, make_token: Callable[..., str]) -> None:
    async with site(open_settings, make_token, [500, 200]) as here:
        made = await here.make(description="mine")
        secret = made.pop("secret")
        assert secret.startswith("whsec_")
        told = [await here.alice.get("/api/webhooks"), await here.act(made, "test")]
        await until(lambda: here.answers(made))
        told += [await here.alice.get(f"/api/webhooks/{made['id']}")]
        told += [await here.act(made, "enable")]
        assert told[0].body["items"] == [made]
        for answer in told:
            assert answer.status in (200, 202)
            assert secret not in str(answer.body)
            assert "secret" not in str(answer.body)


@pytest.mark.gen_test
async def test_webhook_is_its_owners_alone(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """An admin touches the application's too, and nobody else's."""
    async with site(open_settings, make_token, [200]) as here:
        hers = await here.make()
        refused = await here.alice.post("/api/webhooks", {"url": here.url, "application": True})
        assert refused.status == 403
        ours = await here.make(here.admin, application=True)
        assert (ours["application"], hers["application"]) == (True, False)
        listed = {
            name: [one["id"] for one in (await user.get("/api/webhooks")).body["items"]]
            for name, user in {"a": here.alice, "b": here.bob, "admin": here.admin}.items()
        }
        assert listed == {"a": [hers["id"]], "b": [], "admin": [ours["id"]]}
        for user, webhook in ((here.bob, hers), (here.admin, hers), (here.alice, ours)):
            path = f"/api/webhooks/{webhook['id']}"
            answers = [await user.get(path), await user.delete(path)]
            answers += [await user.post(f"{path}/{verb}") for verb in ("enable", "test")]
            answers += [await user.post(f"{path}/redeliver", {"event_id": "x"})]
            assert [one.status for one in answers] == [404] * 5
        await end(here.bob)
        await until(lambda: here.received.requests)
        assert [event_of(one)["user_id"] for one in here.received.requests] == ["bob"]
        assert (await here.admin.delete(f"/api/webhooks/{ours['id']}")).status == 204
        assert (await here.admin.get("/api/webhooks")).body["items"] == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "url is required"),
        ({"url": "ftp://x"}, "url must be an http(s) address"),
        ({"url": "http://u:p@x/"}, "url must not hold a user name or password"),
        ({"url": 5}, "url must be a string"),
        ({"url": "http://x", "events": []}, "events must name one or more"),
        ({"url": "http://x", "events": ["Task"]}, "events[0] must be 1 to 64 of a-z"),
        ({"url": "http://x", "events": ["a"] * 51}, "events must have at most 50 items"),
        ({"url": "http://x", "events": "task.*"}, "events must be a list"),
        ({"url": "http://x", "filter": {"kind": ""}}, "filter.kind must be 1 to 64 of a-z"),
        ({"url": "http://x", "filter": {"color": "red"}}, "filter has unknown fields: color"),
        ({"url": "http://x", "description": "x" * 501}, "description must have at most 500"),
        ({"url": "http://x", "application": "yes"}, "application must be true or false"),
        ({"url": "http://x", "secret": "mine"}, "unknown fields: secret"),
    ],
)
async def test_wrong_webhook_is_refused_with_its_faults(
    open_settings: Settings, make_token: Callable[..., str], body: dict[str, Any], fault: str
) -> None:
    async with site(open_settings, make_token, [200]) as here:
        refused = await here.alice.post("/api/webhooks", body)
        assert refused.status == 422
        assert refused.body["errors"][0].startswith(fault)
        assert (await here.alice.get("/api/webhooks")).body["items"] == []


@pytest.mark.gen_test
async def test_webhooks_of_a_user_are_bounded(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """However many are made at once."""
    few = open_settings.changed(webhooks_per_user=3)
    async with site(few, make_token, [200]) as here:
        for _ in range(2):
            await here.make()
        body = {"url": here.url}
        await asyncio.gather(*(here.alice.post("/api/webhooks", body) for _ in range(6)))
        assert len((await here.alice.get("/api/webhooks")).body["items"]) <= 3
        while (await here.alice.post("/api/webhooks", body)).status == 201:
            pass
        refused = await here.alice.post("/api/webhooks", body)
        assert refused.status == 409
        assert refused.body["detail"] == "there are 3 webhooks already: delete one first"
        await here.make(here.bob)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"events": ["task.*"]}, ["task.cancelled"]),
        ({"events": ["batch.cancelled", "note"]}, ["batch.cancelled"]),
        ({"events": ["*.cancelled"]}, ["batch.cancelled", "task.cancelled"]),
        ({"events": ["task.completed"]}, []),
        (
            {"filter": {"kind": "ana*", "status": "cancelled"}},
            ["batch.cancelled", "task.cancelled"],
        ),
        ({"filter": {"severity": "error"}}, []),
        # An end has no such fact.
        ({"filter": {"type": "*"}}, []),
    ],
)
async def test_webhook_is_told_of_what_it_wants(
    open_settings: Settings,
    make_token: Callable[..., str],
    wanted: dict[str, Any],
    told: list[str],
) -> None:
    async with site(open_settings, make_token, [200]) as here:
        made = await here.make(**wanted)
        batch = (await here.alice.post("/api/batches", {"symbols": ["A", "B"]})).body
        await here.alice.delete(f"/api/batches/{batch['batch_id']}")
        await end(here.alice)
        redis = here.alice.core.redis
        await until(lambda: redis.xlen("{rtq}:outbox"), equal=0)
        await here.act(made, "test")
        await until(lambda: len(here.received.requests) > len(told))
        found = [event_of(one)["type"] for one in here.received.requests]
        assert sorted(found) == sorted([*told, "webhook.test"])


@pytest.mark.gen_test
async def test_webhook_is_told_of_notifications_and_of_their_answers(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """In their order; filters look at the type, the severity and the source."""
    async with site(open_settings, make_token, [500, 200]) as here:
        wanted = {"type": "bill.*", "severity": "warning", "source": "shop"}
        made = await here.make(events=["notification.*"], filter=wanted)
        draft = {"user_id": "alice", "type": "bill.due", "title": "Pay", "severity": "warning"}
        draft |= {"source": "shop", "actions": [{"id": "pay", "label": "Pay", "answer": True}]}
        for other in ({"type": "alert"}, {"severity": "info"}, {"source": None}):
            assert (await here.alice.post("/api/notifications", draft | other)).status == 201
        told = (await here.alice.post("/api/notifications", draft)).body
        answered = await here.alice.post(f"/api/notifications/{told['id']}/actions/pay")
        assert answered.status == 200, answered.body
        await until(lambda: len(here.received.requests) == 3)
        first, again, second = (verified(one, made["secret"]) for one in here.received.requests)
        assert (first["type"], second["type"]) == ("notification.created", "notification.answered")
        assert first == again
        assert first["data"]["id"] == second["data"]["id"] == told["id"]
        assert second["data"]["answered"]["action"] == "pay"


@pytest.mark.gen_test
async def test_new_webhook_is_told_of_the_next_event(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """In every process, though each remembers who has which; one that was deleted is told none."""
    async with (
        site(open_settings, make_token, [200]) as here,
        serving(open_settings, make_token("alice")) as other,
    ):
        for user in (here.alice, other):
            await end(user)
        body = {"url": here.url, "events": ["task.*"]}
        made = (await other.post("/api/webhooks", body)).body

        async def told() -> bool:
            await end(here.alice)
            return bool(here.received.requests)

        await until(told, pause=0.05)
        assert (await here.alice.delete(f"/api/webhooks/{made['id']}")).status == 204
        assert (await other.get("/api/webhooks")).body["items"] == []


@pytest.mark.gen_test
async def test_last_answers_are_shown(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """Twenty of them, the newest first."""
    async with site(open_settings, make_token, [503, 404, 200]) as here:
        made = await here.make()
        sent = (await here.act(made, "test")).body["event_id"]
        await until(lambda: here.answers(made))

        async def three() -> bool:
            return len(await here.answers(made)) == 3

        await until(three)
        good, *bad = await here.answers(made)
        assert [one["status"] for one in bad] == [404, 503]
        assert [one["error"] for one in bad] == [
            "the receiver answered 404",
            "the receiver answered 503",
        ]
        assert {name: good[name] for name in ("event_id", "type", "status", "error")} == {
            "event_id": sent,
            "type": "webhook.test",
            "status": 200,
            "error": None,
        }
        assert 0 < good["seconds"] < 10
        assert good["at"] > bad[0]["at"] > bad[1]["at"]
        for _ in range(25):
            await here.act(made, "test")
        await until(lambda: len(here.received.requests) == 28)

        async def twenty() -> bool:
            return {one["status"] for one in await here.answers(made)} == {200}

        await until(twenty)
        assert len(await here.answers(made)) == 20


async def disabled(here: Site, made: dict[str, Any]) -> dict[str, Any] | None:
    """Return a webhook once it is disabled and its owner knows."""
    now = await here.read(made)
    items = (await here.alice.get("/api/notifications")).body["items"]
    told = [one for one in items if one["source"] == "webhooks"]
    return now | {"told": told} if now["state"] == "disabled" and told else None


@pytest.mark.gen_test
async def test_receiver_that_is_gone_disables_its_webhook_at_once(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    async with site(open_settings, make_token, [410]) as here:
        made = await here.make()
        await here.act(made, "test")
        now = await until(lambda: disabled(here, made))
        assert now is not None
        assert now["reason"] == "the receiver answered 410"
        assert len(here.received.requests) == 1
        [told] = now["told"]
        assert (told["type"], told["severity"]) == ("webhook.disabled", "error")
        about = {"webhook_id": made["id"], "url": here.url, "reason": now["reason"]}
        assert told["metadata"] == about
        assert told["title"] == "Webhook 127.0.0.1: disabled"
        refused = await here.act(made, "test")
        assert (refused.status, refused.body["detail"]) == (
            409,
            "the webhook is disabled: enable it first",
        )
        await end(here.alice)
        await until(lambda: here.alice.core.redis.xlen("{rtq}:outbox"), equal=0)
        again = await here.act(made, "enable")
        assert (again.body["state"], again.body["reason"]) == ("enabled", None)
        here.received.statuses = [200]
        sent = (await here.act(made, "test")).body["event_id"]
        await until(lambda: sent in here.received.events)
        # Events meanwhile are not told.
        assert len(here.received.requests) == 2


@pytest.mark.gen_test
async def test_webhook_that_fails_for_a_day_is_disabled_and_its_owner_told(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """Once, though two of its deliveries fail for that long."""
    async with site(open_settings, make_token, [500]) as here:
        made = await here.make()
        for _ in range(2):
            await end(here.alice)
        now = await until(lambda: disabled(here, made))
        assert now is not None
        assert now["reason"] == "the receiver answered 500"
        await until(lambda: len(here.received.requests) >= ATTEMPTS)
        assert len(now["told"]) == 1
        assert len(here.received.requests) <= 2 * ATTEMPTS


@pytest.mark.gen_test
async def test_webhook_that_takes_other_events_stays_enabled(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """One event that its receiver never takes is not the receiver's end."""
    async with site(open_settings, make_token, [500]) as here:
        made = await here.make()
        bad = (await here.act(made, "test")).body["event_id"]
        await until(lambda: here.received.events)
        here.received.statuses = [200, 500]
        good = (await here.act(made, "test")).body["event_id"]
        await until(lambda: good in here.received.events or bad in here.received.events[1:])

        async def used() -> bool:
            return (await here.read(made))["success_at"] is not None

        await until(used)
        assert (await here.read(made))["state"] == "enabled"


@pytest.mark.gen_test
async def test_event_is_redelivered_by_hand(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """The same, signed anew; not while it is being delivered, nor one that never was."""
    async with site(open_settings, make_token, [200]) as here:
        made = await here.make()
        task_id = await end(here.alice)
        await until(lambda: here.received.requests)

        async def redelivered() -> bool:
            again = await here.act(made, "redeliver", {"event_id": task_id})
            assert again.status in (202, 409)
            return again.status == 202

        await until(redelivered)
        await until(lambda: len(here.received.requests) == 2)
        first, second = (verified(one, made["secret"]) for one in here.received.requests)
        assert first == second
        assert here.received.events == [task_id] * 2
        unknown = await here.act(made, "redeliver", {"event_id": "nothing"})
        assert unknown.status == 404
        assert (await here.act(made, "redeliver", {})).status == 422


@pytest.mark.gen_test
async def test_secret_of_callbacks_is_an_admins_to_read(
    open_settings: Settings, make_token: Callable[..., str]
) -> None:
    """It signs what is posted to `callback_url`, and is the same after a restart."""
    secrets = []
    for _ in range(2):
        async with site(open_settings, make_token, [200]) as here:
            path = "/api/webhooks/callback_secret"
            assert (await here.alice.get(path)).status == 403
            secrets.append((await here.admin.get(path)).body["secret"])
            task_id = await end(here.alice, callback_url=here.url)
            [request] = await until(lambda: here.received.requests)
            assert verified(request, secrets[-1])["event_id"] == task_id
    assert secrets[0] == secrets[1]
