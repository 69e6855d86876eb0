"""The memory of webhooks, over a real MongoDB."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.webhooks.known import Hear, KnownWebhooks
from services.webhooks.models import APPLICATION, Webhook
from services.webhooks.store import WebhookStore
from tests.waiting import until
from tornado_rt.protocol import Message, MessageType


class Counting(WebhookStore):
    """A store that counts what is read."""

    reads = 0

    async def of_owner(self, owner: str) -> list[Webhook]:
        self.reads += 1
        return await super().of_owner(owner)


@pytest.fixture
def store(database: Any) -> Counting:
    return Counting(database)


def webhook(owner: str, id_: str) -> Webhook:
    return Webhook(
        id=id_,
        owner=owner,
        made_by=owner,
        url="http://h/",
        events=["*"],
        filter={},
        description="",
        secret="whsec_AA==",
        state="enabled",
        reason="",
        created_at=1.0,
        changed_at=1.0,
        success_at=0.0,
    )


async def _nothing() -> None: ...


@contextlib.asynccontextmanager
async def running(store: WebhookStore, hear: Hear | None = None) -> AsyncIterator[KnownWebhooks]:
    """Give one that has read the owners."""
    known = KnownWebhooks(store, hear or _nothing)
    job = asyncio.create_task(known.run())
    try:
        await until(lambda: not known.may_have("nobody"))
        yield known
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


@pytest.mark.gen_test
async def test_users_without_webhooks_cost_no_query(store: Counting) -> None:
    await store.add(webhook("alice", "w1"), 0)
    assert KnownWebhooks(store, _nothing).may_have("bob")
    async with running(store) as known:
        before = store.reads
        assert [await known.of_owner(f"user{number}") for number in range(100)] == [()] * 100
        assert store.reads == before
        for _ in range(100):
            assert [one.id for one in await known.of_owner("alice")] == ["w1"]
        assert store.reads == before + 1
        assert (known.may_have("alice"), known.may_have("bob")) == (True, False)


@pytest.mark.gen_test
async def test_change_that_another_process_tells_of_is_read(store: Counting) -> None:
    async with running(store) as known:
        for owner, id_ in (("alice", "w1"), ("alice", "w2"), (APPLICATION, "w3")):
            await store.add(webhook(owner, id_), 0)
            assert id_ not in [one.id for one in await known.of_owner(owner)]
            known.deliver(Message.of(MessageType.SETTINGS, {"owner": owner}))
            assert id_ in [one.id for one in await known.of_owner(owner)]
        assert known.may_have("anybody")


@pytest.mark.gen_test
async def test_lost_messages_are_made_up_for(store: Counting) -> None:
    """Until all is read again nobody is taken for one without webhooks."""
    async with running(store) as known:
        await store.add(webhook("alice", "w1"), 0)
        assert await known.of_owner("alice") == ()
        known.gap()
        assert known.may_have("bob")
        assert [one.id for one in await known.of_owner("alice")] == ["w1"]
        await until(lambda: not known.may_have("bob"))
        assert known.may_have("alice")


@pytest.mark.gen_test
async def test_quiet_ends_are_heard_while_anybody_has_webhooks(store: Counting) -> None:
    """Asked for again when messages were lost, for Redis may have lost that too."""
    asked: list[int] = []
    away = [ConnectionError("Redis is away")]

    async def hear() -> None:
        if away:
            raise away.pop()
        asked.append(1)

    async with running(store, hear) as known:
        assert (asked, len(away)) == ([], 1)
        await store.add(webhook("alice", "w1"), 0)
        known.gap()
        await until(lambda: not known.may_have("bob"))
        assert (asked, away) == ([1], [])
        known.gap()
        await until(lambda: len(asked), equal=2)
