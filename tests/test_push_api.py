"""`/api/push`, `/api/email` and the service worker over HTTP."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from redis.asyncio import Redis

from services.base64url import decode, encode
from services.email import MailLinks
from services.push import load_vapid_key
from settings import Settings
from tests.api import Client, serving
from tests.conftest import SECRET
from tests.push_service import Device
from tests.waiting import until

Token = Callable[..., str]
PUSH_URL = "https://push.example"


async def channels_of(database: Any, user_id: str) -> list[str]:
    """Return what is stored; the account is written a moment after it was changed."""
    user = await database["notification_users"].find_one({"_id": user_id})
    return list(user.get("channels", []))


@pytest.fixture
def mailing(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server with empty stores that could send mail."""
    return settings.changed(
        smtp_url="smtp://127.0.0.1:9",
        smtp_from="news@app.example",
        email_secret="a secret for the links, of 32 bytes",
    )


@pytest.mark.gen_test
async def test_browser_subscribes_and_is_forgotten(mailing: Settings, make_token: Token) -> None:
    """Nobody is shown its keys, nor its address, which is enough to push."""
    device = Device("one")
    async with serving(mailing, make_token("alice")) as alice:
        key = (await alice.get("/api/push/key")).body["key"]
        assert key == load_vapid_key(mailing).public
        assert len(decode(key)) == 65
        made = await alice.post("/api/push/subscriptions", device.subscription(PUSH_URL))
        assert made.status == 201
        again = await alice.post("/api/push/subscriptions", device.subscription(PUSH_URL))
        assert again.body == made.body
        (item,) = (await alice.get("/api/push/subscriptions")).body["items"]
        assert item.pop("created_at").endswith("Z")
        assert item == {"id": made.body["id"], "service": "push.example", "expires_at": None}
        path = f"/api/push/subscriptions/{item['id']}"
        assert (await alice.as_user(make_token("bob")).delete(path)).status == 404
        assert (await alice.delete(path)).status == 204
        assert (await alice.delete(path)).status == 404
        assert (await alice.get("/api/push/subscriptions")).body == {"items": []}


@pytest.mark.gen_test
async def test_bad_subscription_is_told_why(mailing: Settings, make_token: Token) -> None:
    good = Device("one").subscription(PUSH_URL)
    async with serving(mailing, make_token("alice")) as alice:
        for fields, words in [
            ({"endpoint": "http://push.example/a"}, "https"),
            ({"endpoint": "https://127.0.0.1/a"}, "public"),
            ({"keys": good["keys"] | {"auth": "AAAA"}}, "keys.auth must be 16 bytes"),
            ({"keys": good["keys"] | {"p256dh": "AAAA"}}, "keys.p256dh must be a point"),
        ]:
            refused = await alice.post("/api/push/subscriptions", good | fields)
            assert refused.status == 422
            assert words in str(refused.body)


@pytest.mark.gen_test
async def test_service_worker_renews_without_a_token(mailing: Settings, make_token: Token) -> None:
    old, new = Device("old"), Device("new")
    async with serving(mailing, make_token("alice")) as alice:
        nobody = alice.as_user("")
        await alice.post("/api/push/subscriptions", old.subscription(PUSH_URL))
        body = {
            "endpoint": f"{PUSH_URL}/push/old",
            "auth": encode(old.auth),
            "subscription": new.subscription(PUSH_URL),
        }
        wrong = await nobody.post("/api/push/renewals", body | {"auth": encode(new.auth)})
        assert wrong.status == 404
        made = await nobody.post("/api/push/renewals", body)
        assert made.status == 201
        items = (await alice.get("/api/push/subscriptions")).body["items"]
        assert [one["id"] for one in items] == [made.body["id"]]


@pytest.mark.gen_test
async def test_service_worker_is_served_where_it_serves_all_pages(
    mailing: Settings, make_token: Token
) -> None:
    async with serving(mailing, "") as nobody:
        answer = await nobody.get("/sw.js")
        assert answer.status == 200
        assert answer.headers["Content-Type"] in ("text/javascript", "application/javascript")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert b"notificationclick" in answer.body


def token_of(user_id: str, **claims: Any) -> str:
    fields = {"sub": user_id, "exp": time.time() + 60} | claims
    return jwt.encode(fields, SECRET, algorithm="HS256")


async def put(client: Client, path: str, body: Any) -> Any:
    answer = await client.send("PUT", path, body)
    return answer.status, answer.body


@pytest.mark.gen_test
async def test_mail_goes_to_the_address_that_the_issuer_has_verified(mailing: Settings) -> None:
    on, off = {"on": True}, {"on": False}
    async with serving(mailing, "") as nobody:
        for claims in (
            *({}, {"email": "a@b.example"}, {"email": "a@b.example", "email_verified": "true"}),
            *({"email": "a b", "email_verified": True}, {"email": 7, "email_verified": True}),
        ):
            client = nobody.as_user(token_of("alice", **claims))
            assert (await put(client, "/api/email", on))[0] == 409
        alice = nobody.as_user(token_of("alice", email="a@b.example", email_verified=True))
        assert (await alice.get("/api/email")).body == {"email": None, "on": False}
        assert await put(alice, "/api/email", on) == (200, {"email": "a@b.example", "on": True})
        assert await put(alice, "/api/email", off) == (200, {"email": "a@b.example", "on": False})
        later = nobody.as_user(token_of("alice", email="c@b.example", email_verified=True))
        assert await put(later, "/api/email", on) == (200, {"email": "c@b.example", "on": True})


@pytest.mark.gen_test
async def test_application_sets_the_address_of_any_user(
    mailing: Settings, make_token: Token
) -> None:
    path = "/api/users/%E5%BC%A0%2F%E4%B8%89/email"
    async with serving(mailing, make_token("app", scope="rt:admin")) as app:
        assert await put(app, path, {"email": "z@b.example"}) == (
            200,
            {"email": "z@b.example", "on": True},
        )
        user = app.as_user(make_token("张/三"))
        assert (await user.get("/api/email")).body == {"email": "z@b.example", "on": True}
        assert (await put(user, path, {"email": None}))[0] == 403
        bad = await put(app, path, {"email": "z@b.example\r\nBcc: x@y.z"})
        assert (bad[0], "email must be an address" in str(bad[1])) == (422, True)
        assert (await put(app, "/api/users/a%0Ab/email", {"email": None}))[0] == 400
        assert (await put(app, path, {"email": None}))[1] == {"email": None, "on": False}


@pytest.mark.gen_test
async def test_server_without_mail_server_says_so(
    settings: Settings, redis: Redis, database: Any, make_token: Token
) -> None:
    async with serving(settings, make_token("app", scope="rt:admin")) as app:
        status, body = await put(app, "/api/users/alice/email", {"email": "a@b.example"})
        assert (status, body["detail"]) == (409, "this server sends no mail")


@pytest.mark.gen_test
async def test_link_of_a_mail_turns_it_off_in_one_click(
    mailing: Settings, make_token: Token, database: Any
) -> None:
    """A program that only looks at the link changes nothing (RFC 8058)."""
    async with serving(mailing, make_token("app", scope="rt:admin")) as app:
        await app.send("PUT", "/api/users/alice/email", {"email": "a@b.example"})
        alice, nobody = app.as_user(make_token("alice")), app.as_user("")
        link = urlsplit(MailLinks(app.url, mailing.email.email_secret).unsubscribe("alice"))
        path = f"{link.path}?{link.query}"
        shown = await nobody.get(path)
        assert shown.status == 200
        assert b'<form method="post"' in shown.body
        await alice.send("PUT", "/api/notifications/preferences", {"locale": "de-AT"})
        german = (await nobody.get(path)).body.decode()
        assert ('<html lang="de">' in german, "<button>Abstellen</button>" in german) == (
            True,
            True,
        )
        assert (await alice.get("/api/email")).body["on"]
        sent = await nobody.send(
            "POST",
            path,
            b"List-Unsubscribe=One-Click",
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert (sent.status, "Es kommen keine" in sent.body.decode()) == (200, True)
        assert (await alice.get("/api/email")).body == {"email": "a@b.example", "on": False}
        await until(lambda: channels_of(database, "alice"), equal=[])
        for wrong in ("", "?token=", "?token=x.y", path.partition("?")[2][:-2]):
            answer = await nobody.send("POST", f"{link.path}{wrong and '?' + wrong.lstrip('?')}")
            assert answer.status == 400
