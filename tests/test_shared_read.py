"""Reads that share a query."""

import asyncio

import pytest
from pymongo.errors import AutoReconnect

from services.notifications.shared_read import SharedRead


@pytest.mark.gen_test
async def test_key_that_cannot_be_read_takes_nothing_from_the_others() -> None:
    """Only the caller that asked for it is told why."""

    async def read(keys: list[str]) -> dict[str, int]:
        return {key: int(key) for key in keys}

    shared = SharedRead(read)
    asked = [shared.get(key) for key in ("1", "x", "2")]
    first, bad, second = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, second) == (1, 2)
    assert isinstance(bad, ValueError)


@pytest.mark.gen_test
async def test_outage_is_told_to_all_by_one_query() -> None:
    queries = []

    async def read(keys: list[str]) -> dict[str, int]:
        queries.append(keys)
        raise AutoReconnect("away")

    shared = SharedRead(read)
    found = await asyncio.gather(*map(shared.get, "abc"), return_exceptions=True)
    assert [str(one) for one in found] == ["away"] * 3
    assert queries == [["a", "b", "c"]]
