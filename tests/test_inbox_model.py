"""The inbox against its model: the short form of `make fuzz-inbox`, and what the walk would see."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from services.notifications.account import Account, Counts
from tests.inbox_history import History, Stored
from tests.inbox_model import Wrong
from tests.inbox_walk import walking

pytestmark = pytest.mark.long

CI_OPERATIONS = 1500
CI_ROUND = 500
CI_USERS = 12
ANN = "ann"
MOMENT = datetime(2026, 11, 29, 12, tzinfo=UTC)
NOW = "2026-11-29T12:00:00.000Z"
IDS = [f"{number:024x}" for number in range(9)]


@pytest.mark.gen_test(timeout=240)
async def test_processes_devices_and_model_agree_whatever_fails() -> None:
    """A failure prints the seed, and the last operations of the user that it is about."""
    seed = random.randrange(2**32)
    async with walking(seed, CI_USERS) as walk:
        try:
            for _ in range(CI_OPERATIONS // CI_ROUND):
                await walk.go(CI_ROUND)
        except Wrong as wrong:
            wrong.add_note(f"seed {seed}")
            raise
    tally = walk.history.tally
    assert all(tally[name] for name in ("versions", "counts", "lists", "messages", "devices"))


def deed(number: int, before: int, after: int, kind: str = "create", **more: Any) -> dict[str, Any]:
    """Return what a process notes of a deed; of a create by its number."""
    noted = {"number": number, "before": before, "after": after, "now": NOW, "kind": kind}
    if kind == "create":
        noted |= {"id": IDS[number], "fields": fields(number)}
    return noted | more


def fields(number: int) -> dict[str, Any]:
    """Return what is stored of a create."""
    names = ("dedupe_key", "key", "event_id", "expires_at")
    return {"title": str(number), "goes_at": "2027-01-01T00:00:00.000Z", **dict.fromkeys(names)}


def stored(*numbers: int, version: int | None = None) -> dict[str, Stored]:
    """Return a store in which these were created, one after another."""
    documents = [
        {
            "_id": ObjectId(IDS[number]),
            "title": str(number),
            "state": "unread",
            "seq": place,
            "version": place,
            "created_at": MOMENT,
        }
        for place, number in enumerate(numbers, 1)
    ]
    counts = Counts(unread=len(numbers), unseen=len(numbers), inbox=len(numbers))
    account = Account(user_id=ANN, version=version or len(numbers), counts=counts)
    return {ANN: Stored(account, documents)}


def noted(*deeds: dict[str, Any], done: tuple[int, ...] = (1, 2)) -> History:
    """Return a history of deeds, of which some were acknowledged."""
    history = History([ANN])
    for one in deeds:
        history.note("deed", ANN, one)
    for number in done:
        history.note("done", ANN, number)
    return history


def test_what_was_done_and_what_is_stored_agree() -> None:
    history = noted(deed(1, 0, 1), deed(2, 1, 2))
    history.note("counts", ANN, 1, 1, 1)
    history.compare(stored(1, 2))
    assert [view[2] for view in history.inboxes[ANN].listed()] == ["2", "1"]


def test_one_in_doubt_has_happened_when_the_store_shows_it() -> None:
    history = noted(deed(1, 0, 1), deed(2, 1, 2), deed(3, 1, 2), done=(1,))
    history.compare(stored(1, 3))
    assert history.tally["doubtful"] == 1


def test_one_in_doubt_has_not_happened_when_the_store_does_not_show_it() -> None:
    noted(deed(1, 0, 1), deed(2, 1, 2), done=(1,)).compare(stored(1))


def test_number_that_was_given_out_twice_is_seen() -> None:
    with pytest.raises(Wrong, match="twice"):
        noted(deed(1, 0, 1), deed(2, 0, 1)).compare(stored(1))


def test_version_that_nobody_made_is_seen() -> None:
    with pytest.raises(Wrong, match="no deeds lead from version 0 to 3"):
        noted(deed(1, 0, 1), deed(2, 1, 2)).compare(stored(1, 2, version=3))


def test_acknowledged_one_that_is_lost_is_seen() -> None:
    with pytest.raises(Wrong, match="the store has"):
        noted(deed(1, 0, 1), deed(2, 1, 2)).compare(stored(1, version=2))


def test_counts_of_the_future_are_seen() -> None:
    history = noted(deed(1, 0, 1), done=(1,))
    history.note("counts", ANN, 2, 2, 2)
    with pytest.raises(Wrong, match="of the future"):
        history.compare(stored(1))


def test_other_counts_of_a_version_are_seen() -> None:
    history = noted(deed(1, 0, 1), deed(2, 1, 2))
    history.note("counts", ANN, 1, 2, 2)
    with pytest.raises(Wrong, match="of version 1"):
        history.compare(stored(1, 2))


def test_list_that_is_not_of_its_version_is_seen() -> None:
    history = noted(deed(1, 0, 1), deed(2, 1, 2))
    history.note("list", ANN, 1, "all", 1, 1, [])
    with pytest.raises(Wrong, match="the list all of version 1"):
        history.compare(stored(1, 2))


def test_device_that_was_told_something_else_is_seen() -> None:
    history = noted(deed(1, 0, 1), done=(1,))
    history.note("told", ANN, 1, True, [], [])
    with pytest.raises(Wrong, match="was told"):
        history.compare(stored(1))


def test_device_that_has_something_else_is_seen() -> None:
    history = noted(deed(1, 0, 1), done=(1,))
    history.compare(stored(1))
    device = {"name": "ann/0", "user": ANN, "items": {}, "counts": [1, 1, 1]}
    with pytest.raises(Wrong, match="the device ann/0"):
        history.compare_shown({"users": {}, "devices": [device]})
