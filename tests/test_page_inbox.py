"""The inbox on several devices of one user: pages in real browsers, on a real server."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import PHONE, Relay
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.devices import Device, User, change_stored, expect_counts, expect_soon, log_in
from tests.waiting import wait_until

pytestmark = pytest.mark.long

Devices = Callable[..., list[Device]]

# Most changes of which a device that comes back is told one by one.
REPLAYED = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make."""
    folder = tmp_path_factory.mktemp("inbox")
    server = start_server(
        folder / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_REQUESTS_PER_SECOND="0",
        RT_REPLAY_LIMIT=str(REPLAYED),
    )
    yield server
    stop_server(server)


@pytest.fixture
def user(
    request: pytest.FixtureRequest, server: ServerProcess, make_token: Callable[..., str]
) -> User:
    name = re.sub(r"\W+", "-", request.node.name)
    return User(name, make_token(name), server)


@pytest.fixture
def faults() -> list[str]:
    """Complaints of the pages; a test that provokes one takes it out."""
    return []


@pytest.fixture
def devices(
    browser: Browser, server: ServerProcess, user: User, faults: list[str]
) -> Iterator[Devices]:
    """Two desktop browsers and a phone of the user, or fewer."""
    contexts = []

    def open_(count: int = 3, url: str = server.url) -> list[Device]:
        sizes = [{}, {}, {"viewport": PHONE, "has_touch": True, "is_mobile": True}]
        for size in sizes[-count:]:
            contexts.append(browser.new_context(**size))
        pages = [context.new_page() for context in contexts[-count:]]
        return [log_in(page, user, faults, url) for page in pages]

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


STEPS = [
    # The tab where it is done, what is chosen, and the tab where it then stands.
    ("inbox", "Mark as read", "inbox"),
    ("inbox", "Mark as unread", "unread"),
    ("inbox", "Pin", "pinned"),
    ("pinned", "Unpin", "inbox"),
    ("inbox", "Archive", "archived"),
    ("archived", "Move to the inbox", "inbox"),
    ("unread", "Snooze 1 hour", "snoozed"),
    ("snoozed", "Back to the inbox now", "inbox"),
    ("inbox", "Snooze until tomorrow", "snoozed"),
    ("snoozed", "Snooze until next week", "snoozed"),
    ("snoozed", "Archive", "archived"),
    ("archived", "Delete", None),
]


def test_each_verb_is_seen_on_the_other_devices_within_a_second(
    user: User, devices: Devices
) -> None:
    """And the counts are the same everywhere after each."""
    user.notify("first")
    user.notify("the one")
    opened = devices()
    for device in opened:
        device.open()
    for number, (tab, label, target) in enumerate(STEPS):
        actor = opened[number % 3]
        others = [one for one in opened if one is not actor]
        actor.tab(tab)
        expect(actor.line("the one")).to_be_visible()
        for other in others:
            other.tab(target or tab)
        answered = actor.choose("the one", label)
        for other in others:
            line = other.line("the one")
            if target is None:
                expect_soon(
                    lambda ms, line=line: expect(line).to_have_count(0, timeout=ms), answered
                )
            elif label.startswith("Mark as"):
                status = label.removeprefix("Mark as ")
                told = re.compile(f"^{status}$")
                expect_soon(
                    lambda ms, line=line, told=told: expect(line).to_have_attribute(
                        "data-status", told, timeout=ms
                    ),
                    answered,
                )
            else:
                expect_soon(lambda ms, line=line: expect(line).to_be_visible(timeout=ms), answered)
        expect_counts(user, opened)


def test_bulk_verbs_reach_all_devices_and_are_undone(user: User, devices: Devices) -> None:
    """All as read, the read ones to the archive, and both back."""
    for number in range(3):
        user.notify(f"number {number}")
    first, second, phone = opened = devices()
    for device in opened:
        device.open()
        expect(device.page.locator("#notifications > li")).to_have_count(3)
    answered = first.press(first.page.locator("#read-all"))
    for device in (second, phone):
        unread = device.page.locator("#notifications > li[data-status=unread]")
        expect_soon(lambda ms, unread=unread: expect(unread).to_have_count(0, timeout=ms), answered)
    expect(first.page.locator("#toast-text")).to_have_text("Marked as read: 3")
    expect_counts(user, opened)
    answered = phone.press(phone.page.locator("#archive-read"))
    for device in (first, second):
        expect_soon(_expect_lines(device, 0), answered)
    expect(phone.page.locator("#inbox-empty")).to_be_visible()
    answered = phone.press(phone.page.locator("#undo"))
    for device in (first, second):
        expect_soon(_expect_lines(device, 3), answered)
    expect(phone.page.locator("#toast-text")).to_have_text("Undone")
    expect_counts(user, opened)
    # Changes since then stay.
    first.press(first.page.locator("#undo"))
    expect(first.page.locator("#toast-text")).to_contain_text("changed since")


def test_marking_all_as_read_is_undone_everywhere(user: User, devices: Devices) -> None:
    user.notify("read before")
    user.ask("POST", "/read", {"all": True})
    for number in range(2):
        user.notify(f"number {number}")
    actor, other = opened = devices(2)
    for device in opened:
        device.open()
    unread = other.page.locator("#notifications > li[data-status=unread]")
    expect(unread).to_have_count(2)
    actor.press(actor.page.locator("#read-all"))
    expect(unread).to_have_count(0)
    expect_counts(user, opened)
    answered = actor.press(actor.page.locator("#undo"))
    expect_soon(lambda ms: expect(unread).to_have_count(2, timeout=ms), answered)
    expect_counts(user, opened)


def _expect_lines(device: Device, count: int) -> Callable[[int], None]:
    lines = device.page.locator("#notifications > li")
    return lambda ms: expect(lines).to_have_count(count, timeout=ms)


def test_deleted_one_is_put_back_in_its_place_by_undo(user: User, devices: Devices) -> None:
    for number in range(3):
        user.notify(f"number {number}")
    actor, other = opened = devices(2)
    for device in opened:
        device.open()
    actor.choose("number 1", "Delete")
    expect(other.line("number 1")).to_have_count(0)
    expect_counts(user, opened)
    answered = actor.press(actor.page.locator("#undo"))
    expect_soon(lambda ms: expect(other.line("number 1")).to_be_visible(timeout=ms), answered)
    for device in opened:
        expect(device.page.locator("#notifications > li")).to_have_count(3)
        assert device.titles == ["number 2", "number 1", "number 0"]
    expect_counts(user, opened)


def test_snoozed_one_comes_back_as_new_on_top(user: User, devices: Devices) -> None:
    snoozed = user.notify("snoozed")
    user.notify("later")
    actor, other = opened = devices(2)
    for device in opened:
        device.open()
    actor.choose("snoozed", "Snooze 1 hour")
    expect(other.line("snoozed")).to_have_count(0)
    other.page.click("#inbox-close")
    user.ask("POST", "/snooze", {"ids": [snoozed], "seconds": 0.5})
    for device in opened:
        expect(device.page.locator("#notifications > li").first).to_contain_text(
            "snoozed", timeout=10_000
        )
        assert device.titles == ["snoozed", "later"]
        expect(device.line("snoozed")).to_have_attribute("data-status", "unread")
        expect(device.page.locator("#announcement")).to_have_text("New notification: snoozed")
    expect_counts(user, opened)


def test_open_panel_says_what_was_seen(user: User, devices: Devices) -> None:
    """The badge goes on all devices; a reload shows the same."""
    for number in range(2):
        user.notify(f"number {number}")
    first, second, phone = opened = devices()
    for device in opened:
        expect(device.page.locator("#unseen-badge")).to_have_text("2")
        expect(device.page).to_have_title("(2) tornado_rt")
    phone.open()
    for device in opened:
        expect(device.page.locator("#unseen-badge")).to_be_hidden()
        expect(device.page).to_have_title("tornado_rt")
    user.notify("seen at once")
    wait_until(lambda: user.counts[:2], equal=("0", "3 unread"))
    expect_counts(user, opened)
    phone.page.click("#inbox-close")
    user.notify("not seen")
    for device in opened:
        expect(device.page.locator("#unseen-badge")).to_have_text("1")
    second.page.reload()
    expect(second.page.locator("#unseen-badge")).to_have_text("1")
    expect_counts(user, opened)
    first.open()
    assert first.titles == ["not seen", "seen at once", "number 1", "number 0"]


def test_more_are_loaded_by_and_by_and_searched(user: User, devices: Devices) -> None:
    """Sixty of them: each once, in their order, whatever comes meanwhile."""
    for number in range(60):
        user.notify(f"number {number:02}")
    [device] = devices(1)
    device.open()
    lines = device.page.locator("#notifications > li")
    expect(lines).to_have_count(20)
    user.notify("meanwhile")
    expect(lines).to_have_count(21)
    more = device.page.locator("#more")
    more.click()
    expect(lines).to_have_count(41)
    more.click()
    expect(lines).to_have_count(61)
    expect(more).to_be_hidden()
    assert device.titles == ["meanwhile", *(f"number {n:02}" for n in reversed(range(60)))]
    device.page.fill("#inbox-words", "NUMBER 3")
    expect(lines).to_have_count(15)
    user.notify("a new number 3")
    user.notify("another")
    expect(lines).to_have_count(16)
    device.page.fill("#inbox-words", "")
    expect(device.line("another")).to_be_visible()


def test_tab_whose_shown_ones_all_went_loads_the_next(user: User, devices: Devices) -> None:
    for number in range(30):
        user.notify(f"number {number:02}")
    user.ask("POST", "/archive", {"all": True})
    user.notify("in the inbox")
    [device] = devices(1)
    device.open()
    expect(device.page.locator("#notifications > li")).to_have_count(1)
    device.tab("archived")
    expect(device.page.locator("#notifications > li")).to_have_count(20)
    device.page.click("#more")
    expect(device.page.locator("#notifications > li")).to_have_count(30)
    device.tab("inbox")
    expect(device.page.locator("#notifications > li")).to_have_count(1)


def test_texts_and_addresses_of_a_notification_are_never_code(
    user: User, devices: Devices, server: ServerProcess
) -> None:
    """Its markup is shown as text; an address that no page should follow is none."""
    evil = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    code = "javascript:document.title='broken'"
    offer = {"id": "go", "label": evil[:40], "link": code}
    user.notify(evil, content=evil, image="/static/icon.svg")
    change_stored(
        server, {"title": evil}, {"link": code, "icon": code, "image": code, "actions": [offer]}
    )
    [device] = devices(1)
    device.open()
    assert device.titles == [evil]
    expect(device.page.locator("#notifications .content")).to_have_text(evil)
    found = device.page.locator("#notifications :is(img, a)")
    expect(found).to_have_count(0)
    expect(device.page.locator("#notifications b")).to_have_count(1)
    expect(device.page).to_have_title(re.compile("tornado_rt"))


def test_pictures_are_shown(user: User, devices: Devices) -> None:
    icon = "/static/icon.svg"
    user.notify("with pictures", icon=icon, image=icon, link="/orders/7")
    [device] = devices(1)
    device.open()
    for name in ("icon", "image"):
        picture = device.page.locator(f"#notifications .{name}")
        expect(picture).to_be_visible()
        wait_until(lambda picture=picture: picture.evaluate("one => one.naturalWidth > 0"))
    assert device.page.get_attribute("#notifications a", "href") == "/orders/7"


def test_digest_is_one_line_that_opens_its_parts(user: User, devices: Devices) -> None:
    for number in range(3):
        user.notify("Failed", content=f"task {number}", group_key="batch")
    opened = devices(2)
    for device in opened:
        device.open()
        assert device.titles == ["Failed (3)"]
        device.page.get_by_role("button", name="Show all 3").click()
        parts = device.page.locator("#notifications .parts .content")
        expect(parts).to_have_text(["task 2", "task 1", "task 0"])
    user.notify("Failed", content="task 3", group_key="batch")
    for device in opened:
        expect(device.page.locator("#notifications .parts li")).to_have_count(4)
        assert device.titles == ["Failed (4)"]
        device.page.get_by_role("button", name="Hide them").click()
        expect(device.page.locator("#notifications .parts")).to_have_count(0)


def test_action_is_answered_once_on_all_devices(
    user: User, devices: Devices, faults: list[str]
) -> None:
    offers = [
        {"id": "yes", "label": "Approve", "answer": True},
        {"id": "no", "label": "Refuse", "answer": "no"},
        {"id": "see", "label": "See it", "link": "/orders/7"},
    ]
    user.notify("An order", actions=offers)
    actor, other = opened = devices(2)
    for device in opened:
        device.open()
    link = other.page.get_by_role("link", name="See it")
    expect(link).to_have_attribute("href", "/orders/7")
    answered = actor.press(actor.page.get_by_role("button", name="Approve"))
    chosen = other.page.get_by_role("button", name="Answered: Approve")
    expect_soon(lambda ms: expect(chosen).to_be_disabled(timeout=ms), answered)
    expect(other.page.get_by_role("button", name="Refuse")).to_be_disabled()
    expect_counts(user, opened)
    other.page.locator("#notifications button", has_text="Refuse").evaluate(
        "button => { button.disabled = false; button.click(); }"
    )
    expect(other.page.locator("#inbox-error")).to_contain_text("answered before")
    assert [fault for fault in faults if "409" not in fault] == []
    faults.clear()


@pytest.mark.parametrize("link", ["title", "action"])
def test_following_a_link_marks_as_read_on_all_devices(
    user: User, devices: Devices, link: str
) -> None:
    """Though the page is left at once."""
    offer = {"id": "see", "label": "See action", "link": "/?followed"}
    user.notify("a title", link="/?followed", actions=[offer])
    user.notify("not followed")
    actor, other = devices(2)
    for device in (actor, other):
        device.open()
    actor.page.get_by_role("link", name=link).click()
    actor.page.wait_for_url("**/?followed")
    expect(other.line("a title")).to_have_attribute("data-status", "read")
    expect(other.line("not followed")).to_have_attribute("data-status", "unread")
    expect_counts(user, [other])


def test_link_in_another_tab_marks_as_read_and_the_page_stays(user: User, devices: Devices) -> None:
    user.notify("a title", link="/?followed")
    [device] = devices(1)
    device.open()
    with device.page.context.expect_page():
        device.page.get_by_role("link", name="a title").click(button="middle")
    expect(device.line("a title")).to_have_attribute("data-status", "read")
    expect_counts(user, [device])


def test_muted_one_comes_in_without_an_alert(user: User, devices: Devices) -> None:
    [device] = devices(1)
    device.open()
    user.ask("PUT", "/preferences", {"types": {"quiet": {"push": False, "email": False}}})
    user.notify("muted", type="quiet")
    expect(device.line("muted")).to_be_visible()
    expect(device.page.locator("#announcement")).to_have_text("")
    user.notify("loud")
    expect(device.page.locator("#announcement")).to_have_text("New notification: loud")


def test_inbox_is_usable_by_keyboard(user: User, devices: Devices) -> None:
    """The focus stays where it is, or goes to what took its place; Escape leads back."""
    for number in range(3):
        user.notify(f"number {number}")
    [device] = devices(1)
    page, keys = device.page, device.page.keyboard
    page.locator("#bell").press("Enter")
    expect(page.locator("#inbox-title")).to_be_focused()
    expect(page.locator("#bell")).to_have_attribute("aria-expanded", "true")
    page.locator("#tab-inbox").focus()
    keys.press("ArrowRight")
    expect(page.locator("#tab-unread")).to_be_focused()
    expect(page.locator("#tab-unread")).to_have_attribute("aria-selected", "true")
    keys.press("End")
    expect(page.locator("#tab-archived")).to_be_focused()
    keys.press("ArrowRight")
    expect(page.locator("#tab-inbox")).to_be_focused()
    menu = page.get_by_role("button", name="Menu: number 2")
    menu.focus()
    keys.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")
    keys.press("Escape")
    expect(menu).to_have_attribute("aria-expanded", "false")
    expect(menu).to_be_focused()
    user.notify("on top")
    expect(device.line("on top")).to_be_visible()
    expect(menu).to_be_focused()
    keys.press("Enter")
    page.get_by_role("button", name="Archive", exact=True).press("Enter")
    expect(device.line("number 2")).to_have_count(0)
    expect(page.get_by_role("button", name="Menu: number 1")).to_be_focused()
    keys.press("Escape")
    expect(page.locator("#inbox")).to_be_hidden()
    expect(page.locator("#bell")).to_be_focused()


def test_every_control_has_a_name_and_a_size_for_a_thumb(user: User, devices: Devices) -> None:
    """On a phone, by light and by dark; nothing is wider than the screen."""
    offers = [{"id": "yes", "label": "Approve it" * 6, "answer": True}]
    for _ in range(2):
        user.notify("Wide " * 25 + "W" * 60, actions=offers, group_key="wide")
    *_, phone = devices()
    phone.open()
    phone.page.get_by_role("button", name=re.compile("Menu")).click()
    phone.page.get_by_role("button", name=re.compile("Show all")).click()
    expect(phone.page.locator(".parts li")).to_have_count(2)
    for scheme in ("light", "dark"):
        phone.page.emulate_media(color_scheme=scheme)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert phone.page.locator("#inbox").evaluate("one => one.scrollWidth <= one.clientWidth")
    for control in phone.page.locator("#inbox :is(button, summary, a.button):visible").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        name = control.get_attribute("aria-label") or control.inner_text()
        assert re.search(r"\w", name)


@pytest.mark.parametrize("changes", [2, 2 * REPLAYED])
def test_what_was_done_while_a_device_was_away_is_there_when_it_is_back(
    user: User, devices: Devices, faults: list[str], changes: int
) -> None:
    """It is told of a few changes one by one, and of too many by a list."""
    for number in range(4):
        user.notify(f"number {number}")
    relay = Relay(user.server.url)
    [here], [away] = devices(1), devices(1, relay.url)
    for device in (here, away):
        device.open()
        expect(device.page.locator("#notifications > li")).to_have_count(4)
    relay.is_away = True
    relay.cut()
    expect(away.page.locator("#link-state")).to_have_text("Offline")
    away.page.click("#read-all")
    expect(away.page.locator("#inbox-error")).to_have_text("The server cannot be reached")
    here.choose("number 3", "Delete")
    here.choose("number 2", "Archive")
    for number in range(changes):
        user.notify(f"meanwhile {number}")
    relay.is_away = False
    expected = [f"meanwhile {n}" for n in reversed(range(changes))] + ["number 1", "number 0"]
    for device in (here, away):
        wait_until(lambda device=device: device.load_more() or device.titles, equal=expected)
    expect_counts(user, [here, away])
    resync = away.page.locator("#frames", has_text='"type":"resync"')
    expect(resync).to_have_count(int(changes > REPLAYED))
    away.page.goto("about:blank")
    relay.close()
    # The browser itself reports lost connections, and the relay is another origin.
    faults.clear()


PREFERENCES = "**/api/notifications/preferences"


def test_preferences_are_hidden_where_the_server_has_none(
    user: User, devices: Devices, faults: list[str]
) -> None:
    [device] = devices(1)
    device.page.route(PREFERENCES, lambda route: route.fulfill(status=404, body=""))
    device.open()
    device.page.click("#preferences summary")
    expect(device.page.locator("#preferences")).to_be_hidden()
    expect(device.page.locator("#inbox-title")).to_be_focused()
    # The browser reports the 404.
    faults.clear()


def test_preferences_are_kept_and_shown_on_the_other_device(
    user: User, devices: Devices, faults: list[str]
) -> None:
    """Settings that the form does not show stay."""
    hidden = {"types": {"own": {"push": True, "email": True}}, "email": {"delay_seconds": 60.0}}
    user.ask("PUT", "/preferences", hidden)
    actor, other = opened = devices(2)
    for device in opened:
        device.open()
        device.page.click("#preferences summary")
        expect(device.page.get_by_label("own: email")).to_be_checked()
    actor.page.get_by_label("Alerts: push").uncheck()
    actor.page.select_option("#least-severity", "warning")
    actor.page.check("#quiet")
    actor.page.fill("#quiet-zone", "Europe/Berlin")
    actor.page.fill("#locale", "de")
    actor.page.click("#preferences button[type=submit]")
    expect(actor.page.locator("#preferences-told")).to_have_text("Saved")
    expect(other.page.get_by_label("Alerts: push")).not_to_be_checked()
    expect(other.page.locator("#quiet-zone")).to_have_value("Europe/Berlin")
    kept = user.ask("GET", "/preferences")
    assert kept["types"] == {
        "own": {"push": True, "email": True},
        "alert": {"push": False, "email": False},
    }
    assert kept["email"]["delay_seconds"] == 60.0
    assert (kept["least_severity"], kept["locale"]) == ("warning", "de")
    actor.page.fill("#quiet-zone", "Nowhere")
    actor.page.click("#preferences button[type=submit]")
    expect(actor.page.locator("#preferences-error")).to_contain_text("quiet_hours")
    # The browser reports the 422.
    faults.clear()
