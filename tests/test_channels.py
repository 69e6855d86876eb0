"""The channels of a user, and what is unread still."""

from typing import Any

import pytest

from services.channels import Channels
from settings import Settings
from tests.api import serving


@pytest.mark.gen_test
async def test_channels_of_a_user_are_turned_on_and_off(database: Any) -> None:
    """Again and again, and beside what the inbox keeps of the user."""
    channels = Channels(database)
    await channels.set("alice", "push", False)
    assert await database["notification_users"].find_one({"_id": "alice"}) is None
    await database["notification_users"].insert_one({"_id": "alice", "seq": 7})
    for name, on in [("push", True), ("email", True), ("push", True), ("email", False)]:
        await channels.set("alice", name, on)
    user = await database["notification_users"].find_one({"_id": "alice"})
    assert user == {"_id": "alice", "seq": 7, "channels": ["push"]}


@pytest.mark.gen_test
async def test_what_is_unread_is_told_apart(
    settings: Settings, redis: Any, database: Any, make_token: Any
) -> None:
    async with serving(settings, make_token("alice")) as alice:
        ids = []
        for title in ("one", "two", "three"):
            body = {"user_id": "alice", "type": "alert", "title": title}
            ids.append((await alice.post("/api/notifications", body)).body["id"])
        await alice.post(f"/api/notifications/{ids[1]}/read")
        channels = Channels(database)
        unread = await channels.still_unread("alice", [*reversed(ids), "0" * 24, "x"])
        assert [one["title"] for one in unread] == ["one", "three"]
        assert await channels.still_unread("bob", ids) == []
