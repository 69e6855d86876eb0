"""A language that no reader has, in which every message of the pages stands in brackets.

It takes the place of Chinese, so that what Intl writes has no Latin letters: words that are outside
the brackets, and were not told by the server, are in no catalogue.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route

# Of any text in Chinese.
CHINESE = re.compile("[\u4e00-\u9fff]")
SERIOUS = ("serious", "critical")
BRACKETED = """export default new Proxy({}, {
  get: (_, id) => (typeof id === "string" && id !== "then" ? `⟦${id}⟧` : undefined),
});"""
WATCH = """() => {
  const parse = JSON.parse;
  // Names that are the same in every language.
  const told = new Set(["websocket", "json", "fifo", "fair"]);
  // Looked at already, and found to be right.
  const fine = new Set();
  // Words of the wire, which the pages put into words of their own.
  const WORDS = new Set([
    "status", "state", "outcome", "severity", "transport", "final_status", "priority", "via",
  ]);
  const note = (value, name) => {
    if (typeof value === "string" && !WORDS.has(name)) told.add(plain(value));
    if (typeof value !== "object" || value === null) return;
    for (const [key, one] of Object.entries(value)) {
      told.add(plain(key));
      note(one, Array.isArray(value) ? name : key);
    }
  };
  JSON.parse = (...given) => {
    const value = parse(...given);
    note(value);
    return value;
  };
  const plain = (text) => text.toLowerCase().replace(/[\\s_-]+/g, " ").trim();
  const outside = (text) => {
    for (let before = ""; before !== text;) {
      [before, text] = [text, text.replace(/⟦[^⟦⟧]*⟧/g, "\\n")];
    }
    const parts = text.split(/\\n| · |[:;,.()%\\d]/).map(plain);
    return parts.filter((part) => /[a-z]/.test(part));
  };
  const isFine = (part) => told.has(part) || [...told].some((one) => one.includes(part));
  const NAMES = ["aria-label", "aria-valuetext", "title", "placeholder", "alt"];
  const DATA = "[translate=no], script, style, noscript, code, pre";
  const isData = (node) => {
    for (let at = node; at; at = at.getRootNode().host) {
      if ((at.closest ? at : at.parentElement)?.closest(DATA)) return true;
    }
    return false;
  };
  function* textsIn(root) {
    const shown = NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT;
    const walker = document.createTreeWalker(root, shown);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.nodeType === 3) yield [node, node.data];
      else {
        for (const name of NAMES) yield [node, node.getAttribute(name) ?? ""];
        if (node.shadowRoot) yield* textsIn(node.shadowRoot);
      }
    }
  }
  // How often in a row a text was seen that is in no catalogue. One that is just being put into
  // words is no fault.
  let suspects = new Map();
  const look = () => {
    if (document.getElementById("language")?.value !== "zh-CN") return;
    // The words are still to come.
    if (!document.querySelector("[data-t='']")?.textContent.includes("⟦")) return;
    const seen = new Map();
    const title = [document.body, document.title.replace("tornado_rt", "")];
    for (const [node, text] of [...textsIn(document.body), title]) {
      if (fine.has(text) || !/[A-Za-z]/.test(text) || isData(node)) continue;
      if (outside(text).every(isFine)) fine.add(text);
      else seen.set(text, (suspects.get(text) ?? 0) + 1);
    }
    for (const [text, times] of seen) if (times === 3) window.noteText(text);
    suspects = seen;
  };
  setInterval(look, 50);
}"""


@contextmanager
def bracketed(browser: Browser, **options: Any) -> Iterator[tuple[BrowserContext, set[str]]]:
    """Open a context in that language; it comes with the texts that are in no catalogue."""
    found: set[str] = set()

    def answer(route: Route) -> None:
        route.fulfill(body=BRACKETED, content_type="text/javascript")

    with browser.new_context(locale="zh-CN", **options) as context:
        context.route(re.compile(r"/locales/zh-CN\.js$"), answer)
        context.expose_function("noteText", lambda text: found.add(text))
        context.add_init_script(f"({WATCH})()")
        yield context, found


def looked_at(page: Page) -> None:
    """Wait until all that stands in the page now was looked at."""
    page.wait_for_function("() => new Promise((resolve) => setTimeout(() => resolve(true), 250))")


def serious_faults(page: Page) -> list[Any]:
    """Return what axe-core finds that somebody cannot use: the rule, and the elements."""
    # Wait until everything has faded in before measuring it.
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in SERIOUS
    ]
