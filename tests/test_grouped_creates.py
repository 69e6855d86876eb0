"""Creates of several users in one batch, of which either process is killed at each step.

An acknowledged one is there once, another one once or not at all, and counts are exact.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.notifications import NotificationService
from services.notifications.accounts import Accounts
from tests.forks import fork
from tests.inboxes import Make, Published, check_accounts, draft, titles
from tests.killed_stores import lose_what_is_not_on_disk, stored
from tornado_rt.mongo import open_database
from tornado_rt.stores import StoreAddresses

pytestmark = pytest.mark.long

USERS = [f"user{number}" for number in range(6)]
KNOWN = USERS[:3]
# Half of the users have been told something before: their accounts are there.
BEFORE, NEW = "before", "new"

Happens = Callable[[], Awaitable[None]]


def at(accounts: Accounts, step: str, happens: Happens) -> None:
    """Let something happen once at a step, such as `before begin`."""
    when, name = step.split()
    place: Any = accounts.endings if name == "end" else accounts
    method = {"begin": "begin", "steps": "_steps", "end": "_end"}[name]
    do = getattr(place, method)

    async def stepped(operations: Any, *more: Any) -> Any:
        setattr(place, method, do)
        if when == "amid":
            await do({user: operations[user] for user in list(operations)[: len(USERS) // 2]})
        if when != "after":
            await happens()
            return await do(operations, *more)
        done = await do(operations, *more)
        await happens()
        return done

    setattr(place, method, stepped)


STEPS = [
    *("before begin", "after begin", "before steps", "amid steps", "after steps"),
    *("before end", "after end"),
]


async def create_all(service: NotificationService) -> set[str]:
    """Tell all users at once; return who was told for sure."""
    calls = [service.create(draft(user, title=NEW)) for user in USERS]
    told = await asyncio.gather(*calls, return_exceptions=True)
    return {user for user, one in zip(USERS, told, strict=True) if not isinstance(one, Exception)}


async def check(service: NotificationService, database: Any, told: set[str]) -> None:
    for user in USERS:
        old = [BEFORE] if user in KNOWN else []
        expected = [[NEW, *old]] if user in told else [[NEW, *old], old]
        assert await titles(service, user) in expected, user
    await check_accounts(database)
    assert await create_all(service) == set(USERS)
    await check_accounts(database)


def create_and_die(url: str, step: str) -> None:
    """Create, and be killed at a step; print who was told."""

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        async with open_database(url, "tornado_rt") as database:
            service = NotificationService(database, Published())
            await service.prepare()
            at(service._accounts, step, die)
            calls = [tell(service, user) for user in USERS]
            await asyncio.gather(*calls)
            await service.close()

    async def tell(service: NotificationService, user: str) -> None:
        await service.create(draft(user, title=NEW))
        print(user, flush=True)

    asyncio.run(run())


@pytest.mark.gen_test
@pytest.mark.parametrize("step", STEPS)
async def test_server_that_is_killed(
    make_service: Make, database: Any, stores: StoreAddresses, step: str
) -> None:
    service = await make_service()
    for user in KNOWN:
        await service.create(draft(user, title=BEFORE))
    await service._accounts.endings.close()
    killed = await asyncio.to_thread(fork(create_and_die, stores.mongodb_url, step).end)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = set(killed.stdout.split())
    assert told == (set(USERS) if step.endswith("end") else set())
    await check(await make_service(), database, told)


@pytest.mark.gen_test
@pytest.mark.parametrize("step", STEPS)
async def test_store_that_is_killed(tmp_path: Path, step: str) -> None:
    async with stored(tmp_path) as (mongodb, database):
        service = NotificationService(database, Published())
        await service.prepare()
        for user in KNOWN:
            await service.create(draft(user, title=BEFORE))
        await service._accounts.endings.close()
        at(service._accounts, step, lambda: lose_what_is_not_on_disk(mongodb, database))
        told = await create_all(service)
        await service._accounts.endings.close()
        await check(service, database, told)
        await service.close()
