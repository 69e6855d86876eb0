"""The service worker and the switch of the page, in a real browser on a real server.

Chromium subscribes at its maker's push service only, which no test reaches: the page's push manager
stands in for it. Pushes are delivered over the browser's own protocol.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    Page,
    Worker,
    expect,
)

from tests.browsing import log_in
from tests.conftest import ServerProcess
from tests.push_service import Device
from tests.waiting import wait_until

SHOWN = """self.registration.getNotifications()
  .then((all) => all.map((one) => [one.title, one.body, one.tag]))"""
VISIBLE = """self.clients.matchAll({ type: "window", includeUncontrolled: true })
  .then((all) => all.filter((one) => one.visibilityState === "visible").length)"""
ATTEMPTS = 5
NEWS = {"id": "n1", "tag": "n1", "title": "The build failed", "content": "main", "version": 3}
# A push manager that keeps its subscription through a reload, as a browser does.
PUSH_MANAGER = """
const KEYS = %s;
const made = (text) => text && { ...JSON.parse(text), toJSON: () => JSON.parse(text),
  unsubscribe: async () => localStorage.removeItem("subscription") };
PushManager.prototype.getSubscription = async () => made(localStorage.getItem("subscription"));
PushManager.prototype.subscribe = async (options) => {
  localStorage.setItem("asked", JSON.stringify(options));
  localStorage.setItem("subscription", JSON.stringify(KEYS));
  return made(localStorage.getItem("subscription"));
};
"""


@attrs.frozen
class Site:
    """A page that may show notifications."""

    url: str
    context: BrowserContext
    page: Page
    link: CDPSession
    registrations: list[str]

    @property
    def worker(self) -> Worker:
        """The service worker, once there is one."""
        wait_until(lambda: self.page.evaluate("1") and self.context.service_workers)
        return self.context.service_workers[0]

    def register(self) -> None:
        """Have the service worker run."""
        self.page.evaluate(
            "navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)"
            ".then(() => true)"
        )

    def deliver(self, message: dict[str, Any]) -> None:
        """Deliver a push."""
        wait_until(lambda: self.page.evaluate("1") and self.registrations)
        about = {"origin": self.url, "registrationId": self.registrations[-1]}
        self.link.send("ServiceWorker.deliverPushMessage", about | {"data": json.dumps(message)})

    def deliver_until_shown(self, *messages: dict[str, Any], shown: list[list[str]]) -> None:
        """Deliver pushes until these notifications are shown and no others."""
        self._deliver_until(messages, lambda: sorted(self.worker.evaluate(SHOWN)), sorted(shown))

    def deliver_until_told(self, message: dict[str, Any], told: dict[str, Any]) -> None:
        """Deliver a push until the page is told this."""
        self._deliver_until((message,), lambda: self.page.evaluate("window.told"), told)

    def _deliver_until(
        self, messages: tuple[dict[str, Any], ...], condition: Callable[[], Any], equal: Any
    ) -> None:
        """On a busy machine Chromium loses one of several pushes; each may come again.

        A notification replaces the one with the same tag.
        """
        for _ in range(ATTEMPTS):
            for message in messages:
                self.deliver(message)
            with contextlib.suppress(AssertionError):
                wait_until(condition, 10, equal=equal)
                return
        raise AssertionError(f"not after {ATTEMPTS} pushes: {equal}")

    def wait_for(self, shown: list[list[str]]) -> None:
        """Wait until these notifications are shown and no others."""
        wait_until(lambda: self.worker.evaluate(SHOWN), equal=shown)

    def subscriptions(self) -> list[str]:
        """Return the ids of the subscriptions that the server has of the signed-in user."""
        found: list[str] = self.page.evaluate(
            """async () => {
              const answer = await fetch("/api/push/subscriptions");
              return (await answer.json()).items.map((one) => one.id);
            }"""
        )
        return found


@pytest.fixture
def device() -> Device:
    return Device("one")


@pytest.fixture
def site(browser: Browser, server_process: ServerProcess, device: Device) -> Iterator[Site]:
    """A fresh session on the page; whatever it complains of fails the test."""
    faults: list[str] = []
    context = browser.new_context()
    context.grant_permissions(["notifications"], origin=server_process.url)
    subscription = json.dumps(device.subscription("https://push.example"))
    context.add_init_script(PUSH_MANAGER % subscription)
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    link, registrations = context.new_cdp_session(page), []
    link.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registrations.extend(
            one["registrationId"] for one in event["registrations"] if not one["isDeleted"]
        ),
    )
    link.send("ServiceWorker.enable")
    page.goto(server_process.url)
    yield Site(server_process.url, context, page, link, registrations)
    context.close()
    assert faults == []


def test_push_is_shown_while_no_page_is_open_and_withdrawn(site: Site) -> None:
    site.register()
    site.page.goto("about:blank")
    second = NEWS | {"id": "n2", "tag": "n2", "title": "Another", "content": None}
    another = ["Another", "", "n2"]
    failed = ["The build failed", "main", "n1"]
    site.deliver_until_shown(NEWS, second, shown=[failed, another])
    again = ["It failed again", "main", "n1"]
    renewed = NEWS | {"title": "It failed again", "version": 4}
    site.deliver_until_shown(renewed, shown=[again, another])
    site.deliver_until_shown({"withdraw": ["n1", "unknown"], "version": 5}, shown=[another])
    # Made after what was withdrawn.
    site.deliver({"withdraw": "all", "version": 2})
    # Of another tag: Chromium may still be closing the one that was withdrawn.
    third = NEWS | {"id": "n3", "tag": "n3", "version": 6}
    site.deliver_until_shown(third, shown=[another, ["The build failed", "main", "n3"]])
    site.deliver_until_shown({"withdraw": "all", "version": 6}, shown=[])


def test_page_that_is_seen_is_told_instead(site: Site) -> None:
    log_in(site.page, "alice")
    site.register()
    site.page.evaluate(
        "navigator.serviceWorker.addEventListener('message', (e) => (window.told = e.data))"
    )
    site.deliver_until_told(NEWS, told={"type": "push", "data": NEWS})
    site.wait_for([])
    told = {"type": "withdraw", "data": {"ids": ["n1"], "version": 4}}
    site.deliver_until_told({"withdraw": ["n1"], "version": 4}, told=told)


@pytest.mark.parametrize("page", ["/", "/metrics"])
def test_page_that_is_seen_and_has_no_connection_does_not_keep_it(site: Site, page: str) -> None:
    """Nobody is signed in on the first, and the second does not answer."""
    site.register()
    site.page.goto(site.url + page)
    assert site.worker.evaluate(VISIBLE) == 1
    site.deliver_until_shown(NEWS, shown=[["The build failed", "main", "n1"]])


def test_click_subscribes_and_another_gives_it_up(site: Site) -> None:
    """Nothing is asked of a user who has not clicked."""
    log_in(site.page, "alice")
    site.page.click("#bell")
    switch = site.page.locator("#push")
    expect(switch).to_have_text("Tell me on this device when the page is closed")
    assert site.page.evaluate("navigator.serviceWorker.getRegistration('/').then(Boolean)") is False
    switch.click()
    expect(switch).to_have_text("Stop telling me on this device")
    assert len(site.subscriptions()) == 1
    asked = json.loads(site.page.evaluate("localStorage.getItem('asked')"))
    assert asked["userVisibleOnly"] is True
    site.page.reload()
    site.page.click("#bell")
    expect(switch).to_have_text("Stop telling me on this device")
    switch.click()
    expect(switch).to_have_text("Tell me on this device when the page is closed")
    wait_until(site.subscriptions, equal=[])


def test_page_subscribes_anew_when_the_key_of_the_server_has_changed(site: Site) -> None:
    log_in(site.page, "bob")
    site.page.click("#bell")
    site.page.click("#push")
    expect(site.page.locator("#push")).to_have_text("Stop telling me on this device")
    key = json.loads(site.page.evaluate("localStorage.getItem('asked')"))["applicationServerKey"]
    site.page.evaluate(
        """async () => {
          localStorage.removeItem("asked");
          const cache = await caches.open("tornado_rt.push");
          const kept = await (await cache.match("/push-subscription")).json();
          const old = { ...kept, key: "old" };
          await cache.put("/push-subscription", new Response(JSON.stringify(old)));
        }"""
    )
    site.page.reload()
    asked = json.loads(wait_until(lambda: site.page.evaluate("localStorage.getItem('asked')")))
    assert asked["applicationServerKey"] == key


def test_next_user_of_a_browser_is_not_told_of_the_one_before(site: Site) -> None:
    log_in(site.page, "alice")
    site.page.click("#bell")
    site.page.click("#push")
    expect(site.page.locator("#push")).to_have_text("Stop telling me on this device")
    log_in(site.page, "carol")
    expect(site.page.locator("#push")).to_have_text(
        "Tell me on this device when the page is closed"
    )
    assert site.page.evaluate("localStorage.getItem('subscription')") is None
    assert site.subscriptions() == []


def test_service_worker_tells_of_a_renewed_subscription(site: Site) -> None:
    """Without a page, and so without a token."""
    log_in(site.page, "carol")
    site.page.click("#bell")
    site.page.click("#push")
    expect(site.page.locator("#push")).to_have_text("Stop telling me on this device")
    (before,) = site.subscriptions()
    renewed = json.dumps(Device("renewed").subscription("https://push.example"))
    site.worker.evaluate(
        f"""() => {{
          const event = new ExtendableEvent("pushsubscriptionchange");
          event.newSubscription = {{ toJSON: () => ({renewed}) }};
          self.dispatchEvent(event);
        }}"""
    )
    # The old one goes after the new one is kept.
    wait_until(lambda: before not in site.subscriptions())
    assert len(site.subscriptions()) == 1


def test_click_on_a_notification_takes_it_away(site: Site) -> None:
    site.register()
    worker = site.worker
    site.page.goto("about:blank")
    shown = [["The build failed", "main", "n1"]]
    site.deliver_until_shown(NEWS | {"link": "/?task=x"}, shown=shown)
    worker.evaluate(
        """() => {
          self.opened = [];
          Object.defineProperty(self.clients, "openWindow", { value: (url) => opened.push(url) });
          return self.registration.getNotifications().then(([notification]) =>
            void self.dispatchEvent(new NotificationEvent("notificationclick", { notification })));
        }"""
    )
    wait_until(lambda: worker.evaluate("self.opened"), equal=[f"{site.url}/?task=x"])
    site.wait_for([])
