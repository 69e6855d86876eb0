"""Forms, questions and running tasks on the page, with kinds of every sort."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import ask, expect_live, note_faults, status_of, tab_of
from tests.conftest import ServerProcess
from tests.elements import submit


@pytest.fixture
def token(make_token: Callable[..., str], request: pytest.FixtureRequest) -> str:
    """The token of a user that no other test has."""
    return make_token(re.sub(r"\W+", "-", request.node.name))


@pytest.fixture
def faults() -> list[str]:
    """Complaints of the page; a test that provokes one takes it out."""
    return []


@pytest.fixture
def page(
    browser: Browser, client_server: ServerProcess, token: str, faults: list[str]
) -> Iterator[Page]:
    """The page, signed in by the token."""
    context = browser.new_context()
    page = context.new_page()
    note_faults(page, client_server, faults)
    page.goto(client_server.url)
    page.fill("#token", token)
    page.click("#login")
    expect_live(page)
    yield page
    context.close()
    assert faults == []


def params_shown(page: Page, server: ServerProcess, token: str) -> Any:
    """Return the parameters of the task that the page shows."""
    expect(page).to_have_url(re.compile(r"\?task="))
    task = page.url.rpartition("=")[2]
    return ask(server, "GET", f"/api/tasks/{task}", token)["params"]


def test_form_has_a_field_for_each_parameter(
    page: Page, client_server: ServerProcess, token: str, faults: list[str]
) -> None:
    """Texts, numbers, choices, boxes, lists, objects; JSON for the rest. All arrive as they are."""
    page.select_option("#kind", "client.order")
    page.fill("#param-name", "Lamp")
    page.select_option("#param-colour", label="Sky blue")
    page.fill("#param-size-width", "7")
    page.check("#param-size-tall")
    page.fill("#param-share", "0.25")
    page.uncheck("#param-again")
    page.locator("#param-colours").get_by_label("Fiery red").check()
    page.fill("#param-words", "one\ntwo")
    page.fill("#param-limits", "4\n5")
    page.fill("#param-more", '{"deep": [1, {"a": null}]}')
    page.fill("#param-note", "Fragile")
    page.click("#submit-task")
    assert params_shown(page, client_server, token) == {
        "name": "Lamp",
        "colour": "blue",
        "size": {"width": 7, "tall": True},
        "share": 0.25,
        "again": False,
        "colours": ["red"],
        "words": ["one", "two"],
        "limits": [4, 5],
        "more": {"deep": [1, {"a": None}]},
        "note": "Fragile",
    }
    expect(status_of(page)).to_have_text("completed")
    result = page.locator("#view [part=view-result]")
    expect(result.locator("dt").first).to_have_text("Name")
    expect(result.locator("dd").first).to_have_text("Lamp")
    # The schema of the kind names what was chosen.
    params = tab_of(page, "params")
    expect(params.locator("dd").nth(1)).to_have_text("Sky blue")
    expect(params.locator("dd", has_text="Fiery red")).to_have_count(1)


def test_fault_of_an_inner_field_stands_at_it(page: Page, faults: list[str]) -> None:
    """Also those that are seen before anything is sent."""
    page.select_option("#kind", "client.order")
    page.fill("#param-name", "Lamp")
    page.select_option("#param-colour", label="red")
    page.fill("#param-limits", "4\nfive")
    page.click("#submit-task")
    expect(page.locator("#param-limits-error")).to_have_text("Limits 2 must be a number")
    page.fill("#param-limits", "")
    page.fill("#param-more", "{")
    page.click("#submit-task")
    expect(page.locator("#param-more-error")).to_have_text("More must be JSON")
    page.fill("#param-more", "")
    page.fill("#param-size-width", "1.5")
    page.click("#submit-task")
    expect(page.locator("#param-size-width-error")).to_contain_text("Width must be")
    expect(page.locator("#param-size-width")).to_be_focused()
    expect(page.locator("#view-empty")).to_be_visible()
    # The browser reports the 422.
    faults[:] = [one for one in faults if "422" not in one]


def test_running_task_can_be_cancelled_and_run_again(
    page: Page, client_server: ServerProcess, token: str, tmp_path: Path
) -> None:
    """It runs for as long as there is the gate."""
    gate = tmp_path / "gate"
    gate.touch()
    task = submit(client_server, token, "client.gated", params={"gate": str(gate)}, label="Film")
    page.locator("#tasks a", has_text="Film").click()
    expect(page).to_have_url(re.compile(f"task={task}"))
    expect(status_of(page)).to_have_text("processing")
    gate.with_name("gate.1").touch()
    expect(tab_of(page, "output").locator("li").last).to_contain_text("count 1")
    cancel = page.locator("#view").get_by_role("button", name="Cancel")
    cancel.click()
    expect(status_of(page)).to_have_text("cancelled")
    expect(page.locator("#view [part=time]")).to_have_text("")
    expect(cancel).to_have_count(0)
    gate.unlink()
    page.get_by_role("button", name="Run again", exact=True).click()
    expect(status_of(page)).to_have_text("completed")
    expect(tab_of(page, "attempts").locator("li")).not_to_have_count(0)


def test_question_of_a_task_is_answered_where_the_task_is_shown(
    page: Page, client_server: ServerProcess, token: str
) -> None:
    task = submit(client_server, token, "client.asks")
    page.goto(f"{client_server.url}/?task={task}")
    question = page.locator("#view [part=question]")
    expect(question).to_contain_text("Go on?")
    page.reload()
    question.get_by_role("button", name="Yes, go on").click()
    expect(status_of(page)).to_have_text("completed")
    expect(question).to_be_hidden()
    expect(page.locator("#view [part=view-result]")).to_contain_text("yes")


def test_view_of_a_kind_is_the_authors(
    page: Page, client_server: ServerProcess, token: str, faults: list[str]
) -> None:
    """The plain view is shown in place of one that fails; markup in a result is text."""
    page.evaluate(
        """async () => {
          const { setResultView } = await import("/static/rt-elements.js");
          setResultView("client.echo", (result, task) => {
            if (result === "broken") throw new Error("not drawn");
            const made = document.createElement("b");
            made.textContent = `${task.label}: ${result}`;
            return made;
          });
        }"""
    )
    for value, told in (("<i>x</i>", "Mine: <i>x</i>"), ("broken", "broken")):
        task = submit(client_server, token, "client.echo", params={"value": value}, label="Mine")
        page.locator(f"#tasks a[href='?task={task}']").click()
        result = page.locator("#view [part=view-result]")
        expect(result).to_contain_text(told)
        expect(result.locator("i")).to_have_count(0)
