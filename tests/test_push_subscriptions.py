"""Subscriptions of browsers: whose they are, how many, and what is none."""

import os
from pathlib import Path
from typing import Any

import pytest

from services.base64url import encode
from services.push import SubscriptionDraft, SubscriptionNotFound
from tests.push_service import Device
from tests.pushing import site_of
from tornado_rt.json_body import structure
from tornado_rt.problems import Problem

PUSH_URL = "https://push.example"


@pytest.mark.gen_test
async def test_subscriptions_of_a_user_are_bounded(database: Any, tmp_path: Path) -> None:
    async with site_of(database, PUSH_URL, tmp_path, most=2) as site:
        ids = [await site.subscribe("alice", Device(name)) for name in ("a", "b", "c")]
        assert await site.ids("alice") == ids[1:]


@pytest.mark.gen_test
async def test_browser_is_of_the_user_who_subscribed_last(database: Any, tmp_path: Path) -> None:
    browser = Device("one")
    async with site_of(database, PUSH_URL, tmp_path) as site:
        id_ = await site.subscribe("alice", browser)
        assert await site.subscribe("bob", browser) == id_
        assert await site.ids("alice") == []
        assert await site.ids("bob") == [id_]
        on, off = ("bob", "push", True), ("alice", "push", False)
        assert site.channels == [("alice", "push", True), on, off]
        with pytest.raises(SubscriptionNotFound):
            await site.subscriptions.remove("alice", id_)
        await site.subscriptions.remove("bob", id_)
        assert site.channels[-1] == ("bob", "push", False)


@pytest.mark.gen_test
async def test_browser_renews_its_subscription_by_its_secret(database: Any, tmp_path: Path) -> None:
    old, new = Device("old"), Device("new")
    async with site_of(database, PUSH_URL, tmp_path) as site:
        await site.subscribe("alice", old)
        endpoint = old.subscription(PUSH_URL)["endpoint"]
        draft = structure(new.subscription(PUSH_URL), SubscriptionDraft)
        for wrong in (encode(os.urandom(16)), "", "é"):
            with pytest.raises(SubscriptionNotFound):
                await site.subscriptions.renew(endpoint, wrong, draft)
        id_ = await site.subscriptions.renew(endpoint, encode(old.auth), draft)
        assert await site.ids("alice") == [id_]
        with pytest.raises(SubscriptionNotFound):
            await site.subscriptions.renew(endpoint, encode(old.auth), draft)
        assert ("alice", "push", False) not in site.channels


GOOD = Device("a").subscription(PUSH_URL)
BAD: list[dict[str, Any]] = [
    {"endpoint": "https://push.example/" + "x" * 2000},
    {"endpoint": "ftp://push.example/a"},
    {"endpoint": "https://a:b@push.example/"},
    {"endpoint": ""},
    {"expirationTime": -1},
    {"expirationTime": 1e300},
    {"expirationTime": "soon"},
    {"keys": {"p256dh": GOOD["keys"]["p256dh"]}},
    {"keys": GOOD["keys"] | {"auth": encode(b"x" * 15)}},
    {"keys": GOOD["keys"] | {"auth": "ä" * 22}},
    {"keys": GOOD["keys"] | {"p256dh": encode(b"\x04" + b"\1" * 64)}},
    {"keys": GOOD["keys"] | {"p256dh": encode(b"\x02" + b"\1" * 32)}},
    {"keys": GOOD["keys"] | {"p256dh": "x" * 10_000}},
]


@pytest.mark.parametrize("fields", BAD)
def test_bad_subscription_is_refused(fields: dict[str, Any]) -> None:
    structure(GOOD, SubscriptionDraft)
    with pytest.raises(Problem) as refused:
        structure(GOOD | fields, SubscriptionDraft)
    assert refused.value.status_code == 422
