"""Why tells of pushes and mails with their last answers; each fault is made for real."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.httpserver import HTTPServer

from settings import Settings
from tests.mail_server import MailBox, mail_server
from tests.ports import free_port
from tests.push_service import Device, PushService
from tests.waiting import until
from tests.whys import Site, Token, Why, asked, fact

WAYS = {"system": {"push": True, "email": True}}


@pytest.fixture(autouse=True)
def _emptied(redis: Redis, database: Any) -> None:
    """Each test begins without tasks and notifications."""


@contextlib.asynccontextmanager
async def pushing(service: PushService) -> AsyncIterator[str]:
    """Run a push service; yield its address."""
    port = free_port()
    server = HTTPServer(service.application())
    server.listen(port, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        await server.close_all_connections()


async def subscribe(site: Site, url: str, name: str) -> None:
    """Let a browser of Alice be pushed to."""
    answer = await site.alice.post("/api/push/subscriptions", Device(name).subscription(url))
    assert answer.status == 201, answer.body


async def told(site: Site, task_id: str, code: str) -> dict[str, Any]:
    """Ask why until the chain has an entry of this code; return it."""

    async def found() -> Why | None:
        why = await site.why(task_id)
        return why if any(one["code"] == code for one in why["chain"]) else None

    return fact(await until(found, what=f"the chain has {code}"), code)


def pushed(settings: Settings) -> Settings:
    """Return settings of a server that pushes to this machine."""
    return settings.changed(callback_allow_private=True, delivery_retry_scale=0.001)


@pytest.mark.gen_test
async def test_push_to_a_browser_that_is_gone(settings: Settings, make_token: Token) -> None:
    service = PushService(statuses={"gone": [410], "here": [201]})
    async with pushing(service) as url, asked(pushed(settings), make_token) as site:
        await subscribe(site, url, "gone")
        await subscribe(site, url, "here")
        task_id = await site.submit("quick")
        gone = await told(site, task_id, "push_gone")
        assert gone["text"] == (
            "1 browsers of alice take no push any more: the push service answered 410"
        )
        sent = await told(site, task_id, "push_sent")
        assert sent["text"] == "1 browsers of alice were sent a push of its notification"


@pytest.mark.gen_test
async def test_push_that_every_service_refuses(settings: Settings, make_token: Token) -> None:
    service = PushService(statuses={"strict": [403]})
    async with pushing(service) as url, asked(pushed(settings), make_token) as site:
        await subscribe(site, url, "strict")
        refused = await told(site, await site.submit("quick"), "push_refused")
        assert refused["text"] == (
            "the push to the browsers of alice was given up: "
            "every push service has refused it: the push service answered 403"
        )


@pytest.mark.gen_test
async def test_push_that_fails_for_a_while(settings: Settings, make_token: Token) -> None:
    service = PushService(statuses={"slow": [503, 503, 201]})
    async with pushing(service) as url, asked(pushed(settings), make_token) as site:
        await subscribe(site, url, "slow")
        task_id = await site.submit("quick")
        await told(site, task_id, "push_sent")
        failed = await told(site, task_id, "push_attempt")
        assert failed["text"] == (
            "the push to the browsers of alice failed: the push service answered 503"
        )


@contextlib.asynccontextmanager
async def mailed(settings: Settings, make_token: Token, box: MailBox) -> AsyncIterator[Site]:
    """Run a server that mails at once, and a mail server."""
    async with mail_server(box) as port:
        mailing = pushed(settings).changed(
            smtp_url=f"smtp://127.0.0.1:{port}",
            smtp_from="news@app.example",
            email_delay_seconds=0,
        )
        async with asked(mailing, make_token) as site:
            address = {"email": "alice@app.example"}
            answer = await site.admin.send("PUT", "/api/users/alice/email", address)
            assert answer.status == 200, answer.body
            await prefer(site, types=WAYS, email={"address_on": True})
            yield site


async def prefer(site: Site, **preferences: Any) -> None:
    """Change what Alice wants to be told of."""
    answer = await site.alice.send("PUT", "/api/notifications/preferences", preferences)
    assert answer.status == 200, answer.body


@pytest.mark.gen_test
async def test_mail_that_the_server_refuses(settings: Settings, make_token: Token) -> None:
    box = MailBox(recipient_answers=["550 5.1.1 there is no such mailbox"])
    async with mailed(settings, make_token, box) as site:
        refused = await told(site, await site.submit("breaks"), "mail_refused")
        assert refused["text"].startswith("the mail to alice was given up: ")
        assert "550" in refused["text"]
        assert "there is no such mailbox" in refused["text"]


@pytest.mark.gen_test
async def test_mail_that_is_sent(settings: Settings, make_token: Token) -> None:
    async with mailed(settings, make_token, MailBox()) as site:
        sent = await told(site, await site.submit("breaks"), "mail_sent")
        assert sent["text"] == "alice was sent a mail about its notification"


@pytest.mark.gen_test
async def test_mail_that_is_due_later(settings: Settings, make_token: Token) -> None:
    async with mailed(settings, make_token, MailBox()) as site:
        await prefer(site, types=WAYS, email={"address_on": True, "delay_seconds": 3600})
        due = await told(site, await site.submit("breaks"), "mail_waits")
        assert due["text"].startswith("the mail to alice is due at ")
        assert due["run_at"].endswith("Z")
