"""The parts of a server that push, for tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from services.push import (
    PushClient,
    Pusher,
    SubscriptionDraft,
    Subscriptions,
    load_vapid_key,
    push_kind,
)
from settings import Settings
from tests.push_service import Device
from tornado_rt.json_body import structure
from tornado_rt.protocol import iso_time
from tornado_rt.testing import TaskRun, run_task_async

SUBJECT = "mailto:ops@app.example"


def notification(**fields: Any) -> dict[str, Any]:
    """Return a notification as it stands on the wire."""
    usual = {
        "id": "5f0000000000000000000001",
        "user_id": "alice",
        "type": "alert",
        "title": "The build failed",
        "content": "main, in 3 minutes",
        "link": "/builds/7",
        "severity": "error",
        "created_at": iso_time(),
    }
    return usual | fields


@attrs.define
class Site:
    """The parts of a server that push, at a push service on this machine."""

    base_url: str
    settings: Settings
    subscriptions: Subscriptions
    pusher: Pusher
    channels: list[tuple[str, str, bool]]
    unread: list[str]

    async def subscribe(self, user_id: str, browser: Device, **more: Any) -> str:
        draft = structure(browser.subscription(self.base_url) | more, SubscriptionDraft)
        return await self.subscriptions.add(user_id, draft)

    async def push(self, params: dict[str, Any], **more: Any) -> TaskRun:
        return await run_task_async(push_kind(self.pusher), params, **more)

    async def ids(self, user_id: str) -> list[str]:
        return [one.id for one in await self.subscriptions.find(user_id)]


@asynccontextmanager
async def site_of(database: Any, base_url: str, tmp_path: Path, **more: Any) -> AsyncIterator[Site]:
    """Open the parts until the block ends."""
    settings = Settings(data_dir=tmp_path / "data", vapid_subject=SUBJECT)
    key, private = load_vapid_key(settings), more.get("allow_private", True)
    channels, unread = [], ["5f0000000000000000000001"]

    async def set_channel(user_id: str, name: str, on: bool) -> None:
        channels.append((user_id, name, on))

    async def still_unread(user_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        return [notification(id=one) for one in ids if one in unread]

    options = {"server_key": key.public, "allow_private": True} | more
    subscriptions = Subscriptions(database, set_channel, **options)
    await subscriptions.prepare()
    client = PushClient(key, allow_private=private)
    pusher = Pusher(subscriptions, client, still_unread, ttl_seconds=3600)
    try:
        yield Site(base_url, settings, subscriptions, pusher, channels, unread)
    finally:
        client.close()
