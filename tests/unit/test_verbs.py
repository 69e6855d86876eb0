"""Verbs, each on one in every state: what becomes of it, and that a second time changes nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifications.account import Document
from services.notifications.ledger import Edit
from services.notifications.verbs import EDITS, Moment, Verb, unsnoozed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOES_AT = NOW + timedelta(days=90)
UNTIL = NOW + timedelta(hours=1)
BEFORE = NOW - timedelta(hours=1)
DUE: Document = {"goes_at": GOES_AT, "due_at": GOES_AT}
UNREAD: Document = {"state": "unread", "key": "d:k", **DUE}
READ: Document = {"state": "read", "read_at": BEFORE, "seen_at": BEFORE, **DUE}
ARCHIVED: Document = {"state": "archived", "archived_at": BEFORE, "read_at": BEFORE, **DUE}
SNOOZED: Document = {**UNREAD, "state": "snoozed", "snoozed_until": UNTIL, "due_at": UNTIL}
IN_STATE = {"unread": UNREAD, "read": READ, "archived": ARCHIVED, "snoozed": SNOOZED}
GONE = {"state": "gone", "due_at": UNTIL}


def after(document: Document, edit: Edit) -> Document:
    left = {name: value for name, value in document.items() if name not in edit.gone}
    return left | dict(edit.fields)


def done(verb: Verb, document: Document, until: datetime | None = UNTIL) -> Document | None:
    edit = EDITS[verb](document, Moment(NOW, until))
    return None if edit is None else after(document, edit)


# For each verb, the state after it; None where it changes nothing.
STATES: dict[Verb, dict[str, str | None]] = {
    Verb.SEEN: {"unread": "unread", "read": None, "archived": None, "snoozed": None},
    Verb.READ: {"unread": "read", "read": None, "archived": None, "snoozed": None},
    Verb.UNREAD: {"unread": None, "read": "unread", "archived": None, "snoozed": None},
    Verb.ARCHIVE: {
        "unread": "archived",
        "read": "archived",
        "archived": None,
        "snoozed": "archived",
    },
    Verb.UNARCHIVE: {"unread": None, "read": None, "archived": "read", "snoozed": None},
    Verb.SNOOZE: {
        "unread": "snoozed",
        "read": "snoozed",
        "archived": None,
        "snoozed": "snoozed",
    },
    Verb.UNSNOOZE: {"unread": None, "read": None, "archived": None, "snoozed": "unread"},
    Verb.PIN: {"unread": "unread", "read": "read", "archived": "archived", "snoozed": "snoozed"},
    Verb.UNPIN: {"unread": None, "read": None, "archived": None, "snoozed": None},
}
CASES = [(verb, state, to) for verb, row in STATES.items() for state, to in row.items()]


def test_every_verb_but_deletion_is_an_edit() -> None:
    assert {*EDITS, Verb.DELETE} == {*Verb}
    assert {*STATES} == {*EDITS}


@pytest.mark.parametrize(("verb", "state", "to"), CASES)
def test_verb_leads_from_state_to_state(verb: Verb, state: str, to: str | None) -> None:
    found = done(verb, IN_STATE[state])
    assert (None if found is None else found["state"]) == to


@pytest.mark.parametrize(("verb", "state", "to"), [one for one in CASES if one[2]])
def test_verb_done_again_changes_nothing_but_the_time_of_a_snooze(
    verb: Verb, state: str, to: str
) -> None:
    found = done(verb, IN_STATE[state])
    assert found is not None
    again = done(verb, found)
    assert again == (found if verb == Verb.SNOOZE else None)


@pytest.mark.parametrize("verb", EDITS)
@pytest.mark.parametrize("document", [{}, {"state": 7}, {"state": None}])
def test_verb_on_what_has_no_state_takes_it_for_none_in_the_inbox(
    verb: Verb, document: Any
) -> None:
    found = done(verb, document)
    assert found is None or verb in (Verb.ARCHIVE, Verb.PIN)


def test_reading_sees_and_lets_go_of_the_dedupe_key() -> None:
    """A repeated key makes a new one then; a digest keeps its key."""
    found = done(Verb.READ, UNREAD)
    assert found == {**DUE, "state": "read", "read_at": NOW, "seen_at": NOW}
    assert done(Verb.READ, {**UNREAD, "seen_at": BEFORE}) == {**found, "seen_at": BEFORE}
    assert done(Verb.READ, {**UNREAD, "group_key": "g"}) == {**UNREAD, "group_key": "g"} | found


def test_unread_one_stays_seen() -> None:
    found = done(Verb.UNREAD, READ)
    assert found == {**DUE, "state": "unread", "seen_at": BEFORE}


@pytest.mark.parametrize("document", [UNREAD, READ])
def test_unarchived_one_is_as_it_was_read(document: Document) -> None:
    archived = done(Verb.ARCHIVE, document)
    assert archived is not None
    assert archived["archived_at"] == NOW
    back = done(Verb.UNARCHIVE, archived)
    assert back == {name: value for name, value in document.items() if name != "key"}


def test_snoozed_one_is_due_when_its_time_comes_or_when_it_goes() -> None:
    found = done(Verb.SNOOZE, UNREAD)
    assert found == SNOOZED
    late = done(Verb.SNOOZE, UNREAD, GOES_AT + timedelta(days=1))
    assert late is not None
    assert late["due_at"] == GOES_AT
    endless = {"state": "unread"}
    found = done(Verb.SNOOZE, endless)
    assert found == {"state": "snoozed", "snoozed_until": UNTIL, "due_at": UNTIL}
    assert done(Verb.UNSNOOZE, found) == endless
    assert done(Verb.SNOOZE, UNREAD, None) is None


@pytest.mark.parametrize("verb", [Verb.UNSNOOZE, Verb.ARCHIVE])
def test_one_that_is_snoozed_no_more_is_due_when_it_goes(verb: Verb) -> None:
    found = done(verb, SNOOZED)
    assert found is not None
    assert found["due_at"] == GOES_AT
    assert "snoozed_until" not in found


def test_snoozed_one_comes_back_as_new() -> None:
    snoozed = done(Verb.SNOOZE, READ)
    assert snoozed is not None
    back = after(snoozed, unsnoozed(snoozed))
    assert not back.keys() & {"snoozed_until", "read_at", "seen_at"}
    assert back["due_at"] == GOES_AT


def test_pinned_one_is_unpinned() -> None:
    pinned = done(Verb.PIN, UNREAD)
    assert pinned == {**UNREAD, "pinned": True}
    assert done(Verb.UNPIN, pinned) == UNREAD
