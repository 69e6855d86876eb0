"""The store of `<rt-inbox>`, without its drawing: in Chromium, without a user."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from tests.browsing import chromium
from tests.conftest import ServerProcess

pytestmark = pytest.mark.long

PARTS = Path(__file__).parent.parent / "clients/js/src"
# Calls methods of a new store one after the other; answers with its lists and counts.
RUN = """async ([calls, tabs]) => {
    const { InboxStore } = await import("/parts/elements/inbox-store.js");
    const inbox = new InboxStore();
    for (const [method, ...given] of calls) inbox[method](...given);
    const lists = tabs.map((tab) => [tab, inbox.list(tab).map((one) => one.id)]);
    return { lists: Object.fromEntries(lists), counts: inbox.counts };
}"""
TABS = ["inbox", "unread", "pinned", "snoozed", "archived"]
TIME = "2026-01-01T00:00:{:02}.000Z"

Call = list[Any]


@pytest.fixture(scope="module")
def page(server_process: ServerProcess) -> Iterator[Page]:
    """A page from which the modules can be imported."""
    with chromium() as browser:
        page = browser.new_page()
        page.route(
            "**/parts/**",
            lambda route: route.fulfill(path=PARTS / route.request.url.partition("/parts/")[2]),
        )
        page.goto(server_process.url)
        yield page


def run(page: Page, calls: list[Call], tabs: list[str] = TABS) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(RUN, [calls, tabs])
    return found


def notification(id_: str, seq: int = 0, **fields: Any) -> dict[str, Any]:
    """Return one that is new, at a place."""
    return {
        "id": id_,
        "seq": seq,
        "user_id": "alice",
        "title": f"Title {id_}",
        "status": "unread",
        "created_at": TIME.format(0),
        "archived_at": None,
        "snoozed_until": None,
        "pinned": False,
    } | fields


def answer(items: list[dict[str, Any]], version: int, *, following: str | None = None) -> Any:
    """Return a page as the server answers."""
    return {"items": items, "next": following, "unread": 0, "unseen": 0, "version": version}


def changed(version: int, *items: dict[str, Any], deleted: tuple[str, ...] = ()) -> Call:
    return ["apply", "changed", {"items": list(items), "deleted": list(deleted)}, f"e-{version}"]


def new(version: int, item: dict[str, Any]) -> Call:
    return ["apply", "notification", item, f"e-{version}"]


def test_counts_are_those_of_the_highest_version(page: Page) -> None:
    def told(unread: int, version: int) -> dict[str, int]:
        return {"unread": unread, "unseen": unread, "version": version}

    connected = {"unread_count": 3, "unseen_count": 2, "version": 7}
    calls: list[Call] = [
        ["apply", "connected", connected, "e-7"],
        ["apply", "unread_count", told(9, 6)],
        ["take", "inbox", {"items": [], "next": None, **told(8, 5)}],
    ]
    assert run(page, calls)["counts"] == {"unread": 3, "unseen": 2, "version": 7}
    assert run(page, [*calls, ["count", told(1, 8)]])["counts"] == told(1, 8)
    # Another epoch may begin below.
    calls += [["apply", "resync", {"reason": "epoch"}, "f-1"], ["count", told(0, 1)]]
    assert run(page, calls)["counts"] == told(0, 1)


def test_list_that_was_overtaken_by_a_message_takes_nothing_back(page: Page) -> None:
    old = [notification(id_, seq) for id_, seq in (("c", 3), ("b", 2), ("a", 1))]
    calls = [
        changed(5, notification("b", 2, status="read")),
        changed(6, deleted=("c",)),
        ["take", "inbox", answer(old, 4)],
    ]
    lists = run(page, calls)["lists"]
    assert lists["inbox"] == ["b", "a"]
    assert lists["unread"] == ["a"]
    # An undo has put it back before the list was made.
    calls[-1] = ["take", "inbox", answer(old, 7)]
    assert run(page, calls)["lists"]["inbox"] == ["c", "b", "a"]


def test_place_says_the_order_and_not_when_one_came(page: Page) -> None:
    """One that is put back by an undo stands where it was."""
    calls = [
        new(5, notification("c", 5)),
        ["take", "inbox", answer([notification("b", 2)], 4)],
        changed(6, notification("d", 4)),
        changed(7, deleted=("d",)),
        changed(8, notification("a", 1)),
        changed(9, notification("d", 4)),
    ]
    assert run(page, calls)["lists"]["inbox"] == ["c", "d", "b", "a"]


def test_one_that_comes_back_takes_the_place_that_it_is_given(page: Page) -> None:
    """An older list, which has it in its place of before, does not take it back there."""
    calls = [
        ["take", "inbox", answer([notification("b", 2), notification("a", 1)], 1)],
        new(3, notification("a", 3)),
    ]
    assert run(page, calls)["lists"]["inbox"] == ["a", "b"]
    assert run(page, [*calls, calls[0]])["lists"]["inbox"] == ["a", "b"]


def test_list_that_is_older_than_the_first_message_is_asked_for_again(page: Page) -> None:
    """Between the two something may have been told to nobody."""
    connected = Server(version=5).connected()[2]
    found = page.evaluate(
        """async ([connected, answers]) => {
            const { InboxStore } = await import("/parts/elements/inbox-store.js");
            const inbox = new InboxStore();
            inbox.apply("connected", connected, "e-5");
            return answers.map((answer) => {
                inbox.take("inbox", answer);
                return [inbox.restartIfBehind(), inbox.isLoaded("inbox")];
            });
        }""",
        [connected, [answer([], 4), answer([], 5)]],
    )
    assert found == [[True, False], [False, True]]


def test_one_behind_the_loaded_part_is_not_shown_before_its_page_is(page: Page) -> None:
    loaded = [notification("z", 21), notification("y", 19)]
    between, behind = notification("yy", 20), notification("b", 5)
    calls = [
        ["take", "inbox", answer(loaded, 1, following="s2")],
        changed(2, notification("x", 18), behind),
        changed(3, between),
    ]
    assert run(page, calls)["lists"]["inbox"] == ["z", "yy", "y"]
    rest = [notification("x", 18), notification("c", 8), behind]
    calls.append(["take", "inbox", answer(rest, 3)])
    assert run(page, calls)["lists"]["inbox"] == ["z", "yy", "y", "x", "c", "b"]


def test_page_on_which_nothing_was_found_leaves_the_list_as_it_was(page: Page) -> None:
    """The server looks at this many for one page; the next one goes on behind them."""
    calls = [
        changed(1, notification("behind", 5)),
        ["take", "inbox", answer([notification("a", 20)], 1, following="s20")],
        ["take", "inbox", answer([], 1, following="s10")],
    ]
    assert run(page, calls)["lists"]["inbox"] == ["a"]
    rest = answer([notification("b", 9), notification("behind", 5)], 1)
    calls.append(["take", "inbox", rest])
    assert run(page, calls)["lists"]["inbox"] == ["a", "b", "behind"]


def test_broadcast_stays_through_a_resync_and_is_not_for_the_next_user(page: Page) -> None:
    broadcast = notification("m", user_id=None)
    calls: list[Call] = [
        new(1, notification("a")),
        ["apply", "notification", broadcast, None],
        ["apply", "resync", {"reason": "limit"}, "e-9"],
    ]
    lists = run(page, calls)["lists"]
    assert (lists["inbox"], lists["unread"]) == (["m"], [])
    assert run(page, [*calls, ["clear"]])["lists"]["inbox"] == []


def test_broadcast_stands_above_what_there_is_when_it_comes(page: Page) -> None:
    """Before the first list that is the list."""

    def broadcast(id_: str) -> Call:
        return ["apply", "notification", notification(id_, user_id=None), None]

    calls = [
        broadcast("m"),
        broadcast("n"),
        ["take", "inbox", answer([notification("b", 2), notification("a", 1)], 2, following="s1")],
        new(3, notification("c", 3)),
        broadcast("o"),
        new(4, notification("d", 4)),
    ]
    assert run(page, calls)["lists"]["inbox"] == ["d", "o", "c", "n", "m", "b", "a"]
    kept = [f"{number:02}" for number in range(40, 60)]
    calls += [broadcast(id_) for id_ in kept]
    assert run(page, calls)["lists"]["inbox"] == [*reversed(kept), "d", "c", "b", "a"]


def test_search_shows_titles_with_all_words(page: Page) -> None:
    calls: list[Call] = [
        ["search", " LIMIT  reached"],
        new(1, notification("a", title="Your limit is reached")),
        new(2, notification("b", title="Your limit")),
    ]
    assert run(page, calls)["lists"]["inbox"] == ["a"]


def test_snooze_ends_in_the_morning_of_the_users_clock(page: Page) -> None:
    """Next week begins on Monday, from Sunday as from Monday."""
    found = page.evaluate("""async () => {
        const { SNOOZES } = await import("/parts/elements/inbox-store.js");
        const clock = ({ until }) => {
            const at = new Date(until);
            return [at.getDay(), at.getDate(), at.getHours()];
        };
        const days = [26, 29, 30].map((day) => new Date(2026, 10, day, 23, 59));
        return [
            SNOOZES.hour.until(days[0]),
            ...days.flatMap((now) => [
                clock(SNOOZES.tomorrow.until(now)), clock(SNOOZES.week.until(now))]),
        ];
    }""")
    # Thursday the 26th, Sunday the 29th, Monday the 30th of November.
    assert found == [
        {"seconds": 3600},
        *([5, 27, 9], [1, 30, 9]),
        *([1, 30, 9], [1, 30, 9]),
        *([2, 1, 9], [1, 7, 9]),
    ]


ADDRESSES = {
    "/orders/7": True,
    "https://shop.example/7": True,
    "http://shop.example/7": True,
    "//evil.example": False,
    "/\\evil.example": False,
    "/\t/evil.example": False,
    "javascript:alert(1)": False,
    " javascript:alert(1)": False,
    "data:text/html,x": False,
    "orders": False,
    "": False,
}


def test_only_paths_and_web_addresses_are_followed(page: Page) -> None:
    found = page.evaluate(
        """async (texts) => {
            const { webAddress } = await import("/parts/elements/inbox-store.js");
            return texts.map((text) => webAddress(text));
        }""",
        [*ADDRESSES, None],
    )
    assert found == [*(text if good else "" for text, good in ADDRESSES.items()), ""]


def test_preferences_keep_what_the_form_does_not_show(page: Page) -> None:
    """A type that nobody decided on follows the server's list, which may change."""
    before = {
        "types": {"own": {"push": False, "email": False}},
        "default": None,
        "least_severity": "info",
        "quiet_hours": {"from": "1:00", "to": "2:00", "timezone": "UTC", "except_errors": True},
        "locale": "de",
        "later": 7,
    }
    listed = [
        {"type": "a", "title": "A", "default": {"push": True, "email": True}},
        {"type": "b", "title": "B"},
    ]
    form = {
        "types": {
            "a": {"push": True, "email": True},
            "b": {"push": False, "email": False},
            "own": {"push": False, "email": False},
        },
        "least_severity": "error",
        "quiet_hours": {"from": "22:00", "to": "06:00", "timezone": "UTC"},
        "locale": " ",
    }
    found = page.evaluate(
        """async ([listed, before, form]) => {
            const parts = await import("/parts/elements/preferences.js");
            const { chosenPreferences: chosen, typesOf } = parts;
            return chosen(before, typesOf(listed, before), form);
        }""",
        [listed, before, form],
    )
    assert found == {
        "types": {"own": {"push": False, "email": False}, "b": {"push": False, "email": False}},
        "default": None,
        "least_severity": "error",
        "quiet_hours": {"from": "22:00", "to": "06:00", "timezone": "UTC", "except_errors": True},
        "locale": None,
        "later": 7,
    }


@attrs.define
class Server:
    """A user's notifications as the server keeps them, and the messages of each change."""

    version: int = 0
    top: int = 0
    items: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    removed: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    messages: list[Call] = attrs.field(factory=list)
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(10))

    def do(self, verb: str, choice: int) -> None:
        """Do what a user, the application or the clock does."""
        self.version += 1
        if verb in ("create", "create muted") or not self.items:
            item = notification(str(next(self._ids)))
            self._put_on_top(item, is_muted=verb == "create muted")
        elif verb == "undelete" and self.removed:
            id_, item = self.removed.popitem()
            self.items[id_] = item
            self.messages.append(changed(self.version, item))
        else:
            self._change(verb, sorted(self.items)[choice % len(self.items)])

    def _change(self, verb: str, id_: str) -> None:
        item = self.items[id_]
        if verb in ("delete", "undelete"):
            self.removed[id_] = self.items.pop(id_)
            self.messages.append(changed(self.version, deleted=(id_,)))
        elif verb == "wake":
            self._put_on_top({**item, "snoozed_until": None, "archived_at": None})
        else:
            self.items[id_] = {**item, **VERBS[verb](item)}
            self.messages.append(changed(self.version, self.items[id_]))

    def _put_on_top(self, item: dict[str, Any], *, is_muted: bool = False) -> None:
        # The parts of a digest take places that no list shows.
        self.top += 2
        item = self.items[item["id"]] = {**item, "seq": self.top}
        self.messages.append((changed if is_muted else new)(self.version, item))

    def connected(self) -> Call:
        """Return what a client hears first."""
        data = {"recovered": False, "version": self.version, "unread_count": 0, "unseen_count": 0}
        return ["apply", "connected", data, "e-0"]

    def list(self, tab: str) -> list[str]:
        """Return the ids of a tab, the newest first."""
        found = [one for one in self.items.values() if IN[tab](one)]
        return [one["id"] for one in sorted(found, key=lambda one: -one["seq"])]

    def answer(self, tab: str) -> Call:
        """Return what a client does with an answer of now: it takes it, or will later."""
        items = [dict(self.items[id_]) for id_ in self.list(tab)]
        return ["take", tab, answer(items, self.version)]


VERBS: dict[str, Any] = {
    "read": lambda one: {"status": "read"},
    "unread": lambda one: {"status": "unread"},
    "archive": lambda one: {"archived_at": TIME.format(0), "snoozed_until": None},
    "unarchive": lambda one: {"archived_at": None},
    "snooze": lambda one: {} if one["archived_at"] else {"snoozed_until": TIME.format(59)},
    "pin": lambda one: {"pinned": True},
    "unpin": lambda one: {"pinned": False},
}


def _is_in_inbox(one: dict[str, Any]) -> bool:
    return not one["archived_at"] and not one["snoozed_until"]


IN: dict[str, Any] = {
    "inbox": _is_in_inbox,
    "unread": lambda one: _is_in_inbox(one) and one["status"] == "unread",
    "pinned": lambda one: _is_in_inbox(one) and one["pinned"],
    "snoozed": lambda one: not one["archived_at"] and one["snoozed_until"],
    "archived": lambda one: one["archived_at"],
}
ACTS = st.sampled_from(["create", "create muted", "delete", "undelete", "wake", *VERBS])
CHANGES = st.lists(st.tuples(ACTS, st.integers(0, 20)), max_size=40)
# For each tab: after how many changes its list is asked for, and after how many more it comes.
LOADS = st.tuples(*(st.tuples(st.integers(0, 40), st.integers(0, 9)) for _ in TABS))


@settings(max_examples=300)
@given(before=st.integers(0, 10), changes=CHANGES, loads=LOADS)
def test_page_ends_with_the_servers_lists(
    page: Page, before: int, changes: Any, loads: Any
) -> None:
    """Whenever the answers come, and whatever was done while they were on their way."""
    server = Server()
    for _ in range(before):
        server.do("create", 0)
    calls = [server.connected()]
    answers: list[tuple[int, Call]] = []
    for now in range(len(changes) + 1):
        for tab, (asked, delay) in zip(TABS, loads, strict=True):
            if now == min(asked, len(changes)):
                answers.append((now + delay, server.answer(tab)))
        calls += [call for due, call in answers if due == now]
        if now < len(changes):
            server.do(*changes[now])
            calls.append(server.messages[-1])
    calls += [call for due, call in answers if due > len(changes)]
    assert run(page, calls)["lists"] == {tab: server.list(tab) for tab in TABS}
