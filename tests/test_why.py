"""`GET /api/tasks/{id}/why`, the command and the verbs of the clients."""

import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import By, QueueService
from services.why.causes import GAVE_UP
from services.why.hearing import CLOSED, HINDRANCES, MUTES
from services.why.words import MOMENTS, WORDS
from settings import Settings
from tests.client_forms import Form
from tests.client_forms import form as form
from tests.conftest import ROOT, ServerProcess
from tests.queueing import claim, end, enqueue
from tests.waiting import until
from tests.whys import Token, asked, codes


@pytest.mark.gen_test
async def test_task_of_another_is_not_there(
    settings: Settings, make_token: Token, database: Any, redis: Redis
) -> None:
    """Nor is one that there never was; an admin is told of everybody's."""
    async with asked(settings, make_token, worker_concurrency=0) as site:
        task_id = await site.submit("quick")
        for user, id_ in ((site.bob, task_id), (site.alice, "none"), (site.admin, "none")):
            answer = await user.get(f"/api/tasks/{id_}/why")
            assert answer.status == 404
            assert answer.body["detail"] == f"there is no task {id_}"
        assert (await site.why(task_id, site.admin))["cause"]["code"] == "no_worker"


@pytest.mark.gen_test
async def test_forgotten_task_is_known_by_its_notification(
    settings: Settings, make_token: Token, database: Any, redis: Redis
) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.submit("quick")
        await site.heard(task_id, "nobody_connected")
        answer = await site.admin.post("/api/queue/purge", {"status": "completed"})
        assert answer.body["purged"] == 1
        found = await site.why(task_id)
        assert found["cause"]["text"] == (
            "it ended as completed, and is kept no more: its notification is all that is left of it"
        )
        assert (found["status"], codes(found)) == ("completed", ["notified"])
        assert (await site.bob.get(f"/api/tasks/{task_id}/why")).status == 404


@pytest.mark.gen_test
async def test_entries_of_a_chain_have_their_time_code_text_and_facts(
    settings: Settings, make_token: Token, database: Any, redis: Redis
) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        found = await site.why(await site.submit("quick", label="one"))
        for one in found["chain"]:
            assert {"at", "code", "text"} <= set(one)
            assert one["at"].endswith("Z")
        assert found["chain"][0]["user"] == "alice"


@pytest.mark.gen_test
async def test_journal_of_a_task_is_bounded(redis: Redis, queue: QueueService) -> None:
    """The last events are kept; one that comes again behind itself is counted."""
    task_id = await enqueue(queue)
    for number in range(30):
        await queue.cancel_task(task_id, by=By("user", f"u{number}"))
        await queue.rerun_task(task_id, by=By("admin", f"u{number}"))
    facts = await queue.read_facts(task_id)
    assert facts is not None
    assert len(facts.journal) == 20
    assert facts.journal[-1].pair == ("admin", "u29")
    for _ in range(3):
        [one] = await claim(queue)
        await queue.release_task(task_id, one.token)
    facts = await queue.read_facts(task_id)
    assert facts is not None
    assert (facts.journal[-1].code, facts.journal[-1].times) == ("handed_back", 3)


@pytest.mark.gen_test
async def test_ordinary_task_keeps_no_journal(redis: Redis, queue: QueueService) -> None:
    task_id = await enqueue(queue)
    await end(queue, *await claim(queue))
    assert not await redis.hexists("{rtq}:task:" + task_id, "journal")


@pytest.mark.gen_test
async def test_garbage_in_what_is_kept_explains_nothing_and_breaks_nothing(
    redis: Redis, queue: QueueService
) -> None:
    task_id = await enqueue(queue)
    for garbage in (b"\xff", b"\x91\x01", b"\x91\x92\x01\x02", b"text"):
        await redis.hset("{rtq}:task:" + task_id, "journal", garbage)
        await redis.hset("{rtq}:workers", "w", b"1 " + garbage)
        facts = await queue.read_facts(task_id)
        assert facts is not None
        assert (facts.journal, facts.workers) == ([], [])
        await queue.cancel_task(task_id)
        await queue.rerun_task(task_id)
        facts = await queue.read_facts(task_id)
        assert facts is not None
        assert [one.code for one in facts.journal] == ["cancelled", "rerun"]


def test_every_code_has_a_sentence_whose_variables_have_names() -> None:
    known = {*HINDRANCES, *MUTES.values(), *CLOSED.values(), *GAVE_UP.values()}
    assert known <= set(WORDS)
    for text in WORDS.values():
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        assert all(name.isidentifier() for name in names)
        assert not {one for one in names if one.endswith("_at")} - MOMENTS


def command(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `run.py` against a server on this machine."""
    given = ["--data-dir", str(server.data_dir), "--url", server.url]
    return subprocess.run(
        [sys.executable, "run.py", *arguments, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_command_prints_the_cause_and_the_chain(server_process: ServerProcess) -> None:
    made = command(server_process, "submit", "analysis", '{"symbol": "WHY"}', "--delay", "1000")
    task_id = made.stdout.strip()
    told = command(server_process, "why", task_id)
    assert (told.returncode, told.stderr) == (0, "")
    first, empty, submitted, aside, waits = told.stdout.splitlines()
    assert first.startswith(f"{task_id} is delayed: it is set aside until ")
    assert empty == ""
    assert submitted.endswith("alice submitted it as a task of analysis")
    assert "it was set aside until" in aside
    assert "it waits: it is set aside until" in waits
    whole = json.loads(command(server_process, "why", task_id, "--json").stdout)
    assert whole["cause"]["code"] == "scheduled"
    unknown = command(server_process, "why", "none")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no task none" in unknown.stderr


def test_client_is_told_why(form: Form, client_server: ServerProcess) -> None:
    client = form.client(client_server.url, user="why-of-a-client")
    task = form.call(client.submit("client.echo", {}, delay=1000))
    why = form.call(task.why())
    assert (why.task_id, why.status) == (task.id, "delayed")
    assert why.cause["code"] == "scheduled"
    assert why.heard is None
    assert [one["code"] for one in why.chain] == ["submitted", "set_aside", "waits"]


@pytest.mark.gen_test
async def test_page_of_docs_has_every_code(tmp_path: Path) -> None:
    """But for parts of sentences."""
    page = (ROOT / "docs" / "why.md").read_text()
    parts = {"others", "nobody", "elsewhere", "worker_places", "and"}
    assert [one for one in WORDS if one not in parts and f"`{one}`" not in page] == []


@pytest.mark.gen_test
async def test_cause_is_found_beside_many_running_tasks(redis: Redis, queue: QueueService) -> None:
    """Of which 200 are looked at."""
    for _ in range(300):
        await enqueue(queue)
    await claim(queue, 250)
    task_id = await enqueue(queue)
    facts = await until(lambda: queue.read_facts(task_id))
    assert (len(facts.running), facts.counts["global_limit"]) == (200, 250)
