"""Custom elements on a page of a real server that has no script of its own."""

from typing import Any

from playwright.sync_api import Locator, Page

from tests.browsing import ask
from tests.conftest import ServerProcess

LOAD = """async ([url, token]) => {
  document.body.replaceChildren();
  const { Client } = await import("/static/rt-client.js");
  await import("/static/rt-elements.js");
  window.client = Client.default = new Client(url, { token, backoff: { first: 0.05, most: 0.2 } });
}"""
ADD = """([name, attributes]) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  document.body.append(element);
}"""


def add(page: Page, name: str, **attributes: str) -> Locator:
    """Add an element; return its locator."""
    page.evaluate(ADD, [name, {key.replace("_", "-"): value for key, value in attributes.items()}])
    return page.locator(name).nth(page.locator(name).count() - 1)


def submit(server: ServerProcess, token: str, kind: str, **more: Any) -> str:
    """Submit a task; return its id."""
    made = ask(server, "POST", "/api/tasks", token, {"kind": kind, "notify": False, **more})
    return str(made["task_id"])
