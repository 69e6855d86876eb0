"""Workers elsewhere that say what makes no sense, or too much: each gets an answer, and stays."""

import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from redis.asyncio import Redis

from services.console import ACTIONS, AskedAction
from settings import Settings
from tests.api import frame
from tests.peers import TEXT, Peer, client_frame
from tests.remote_worker import FILM, Frame, RemoteWorker, connect, lease, office, read, submit
from tests.waiting import until

Token = Callable[..., str]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


WORDS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 500)
STEPS = st.recursive(
    WORDS | st.fixed_dictionaries({"name": WORDS}, optional={"weight": NUMBERS, "title": JSON}),
    lambda inner: st.fixed_dictionaries({"name": WORDS, "steps": st.lists(inner, max_size=3)}),
    max_leaves=6,
)
# Each nearly as it may be.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "progress": NUMBERS,
    "step": WORDS | st.lists(WORDS, max_size=3),
    "fraction": NUMBERS,
    "done": NUMBERS,
    "message": WORDS,
    "plan": st.lists(STEPS, max_size=4) | st.none(),
    "state": st.dictionaries(WORDS, JSON, max_size=3),
    "snapshot": st.dictionaries(st.sampled_from(["marks", "plan", "progress"]), JSON),
    "keep": st.dictionaries(WORDS, JSON, max_size=3),
    "notify": st.fixed_dictionaries({"title": WORDS}, optional={"severity": WORDS, "id": WORDS}),
    "ask": st.fixed_dictionaries(
        {"name": WORDS, "title": WORDS, "options": st.dictionaries(WORDS, JSON, max_size=3)}
    ),
    "withdraw": WORDS,
    "odd": JSON,
}


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server without a worker of its own, and without limits over all kinds."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0)


async def complaint(worker: RemoteWorker, text: str) -> str:
    """Send anything; return what is said of it."""
    await worker.socket.write_message(text)
    answer = await worker.next(lambda one: one["type"] == "error")
    return f"{answer['data']['code']}: {answer['data']['message']}"


@pytest.mark.gen_test
async def test_bad_messages_are_told_what_is_wrong_and_where(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (_, machine):
        worker = await connect(machine)
        wrong = [
            ("what", "bad_message"),
            ('{"type": "fly"}', "unknown_type"),
            ('{"type": "work"}', "bad_message: the body is not valid"),
            ('{"type": "work", "data": {"worker_id": "w", "kinds": ["x"]}}', "slots is required"),
            (
                '{"type": "work", "data": {"worker_id": "w", "kinds": ["x"], "slots": 2000}}',
                "slots must be at most 1000",
            ),
            ('{"type": "ack", "data": {"items": 3}}', "items must be a list"),
            ('{"type": "report", "data": {"items": [12345678901234567890123]}}', "64 bits"),
            ('{"type": "report", "data": [' + "[" * 100_001 + "]" * 100_001 + "]}", "100000 lists"),
        ]
        for text, told in wrong:
            assert told in await complaint(worker, text), text
        answer = await worker.ask("work", worker_id="w", kinds=["x"], slots=1, odd=1)
        assert answer["type"] == "error"
        assert answer["data"]["ref"] == answer["ref"]
        assert "odd" in answer["data"]["message"]
        await worker.work()


@pytest.mark.gen_test
async def test_garbage_breaks_nothing(quiet: Settings, make_token: Token) -> None:
    """Every message is answered, and the task goes on to its end."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        task = await worker.task()
        members = st.sampled_from(sorted(FIELDS)).flatmap(
            lambda name: st.fixed_dictionaries({name: FIELDS[name]})
        )
        said: list[tuple[str, Frame]] = []

        @hypothesis.settings(max_examples=300, derandomize=True, database=None)
        @hypothesis.given(
            st.sampled_from(["report", "report", "extend", "work", "drain"]), members | JSON
        )
        def collect(type_: str, value: Any) -> None:
            item = lease(task, **value) if isinstance(value, dict) else value
            said.append((type_, {"items": [item]} if type_ != "work" else value))

        collect()
        for type_, data in said:
            await worker.socket.write_message(json.dumps({"type": type_, "ref": 1, "data": data}))
            # An item that is no JSON for the server has no ref.
            answer = await worker.next(lambda one: one.get("ref") == 1 or one["type"] == "error")
            assert answer["type"] in ("error", "reported", "extended", "draining"), answer
            assert "internal" not in json.dumps(answer), (type_, data, answer)
        await worker.work()
        [told] = await worker.items("ack", lease(task, outcome="completed"))
        assert told["became"] == "completed"
        assert (await read(alice, task_id))["status"] == "completed"


@pytest.mark.gen_test
async def test_whole_snapshot_of_a_run_is_looked_at_and_shown(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        task = await worker.task()
        shown = await read(alice, task_id)
        names = ("progress", "message", "current_step", "current_step_name", "total_steps")
        times = ("elapsed_time", "remaining_time", "estimated_total_time")
        snapshot = {name: shown[name] for name in (*names, *times)}
        snapshot |= {
            "plan": shown.get("plan"),
            "marks": "cr",
            "message": "told whole",
            "progress": 30,
        }
        bad = [{}, snapshot | {"marks": "xx", "plan": None}, snapshot | {"plan": "0" * 16}]
        for one in bad:
            [told] = await worker.items("report", lease(task, snapshot=one))
            assert "items[0].snapshot" in told["error"]["message"]
        [told] = await worker.items(
            "report", lease(task, snapshot=snapshot | {"plan": None, "marks": ""})
        )
        assert told["state"] == "yours"
        shown = await read(alice, task_id)
        assert (shown["message"], shown["progress"]) == ("told whole", 30)
        await worker.items("ack", lease(task, outcome="failed", error="in the end"))
        shown = await read(alice, task_id)
        assert (shown["status"], shown["message"]) == ("failed", "in the end")


@pytest.mark.gen_test
async def test_workers_of_a_process_are_bounded(quiet: Settings, make_token: Token) -> None:
    async with office(quiet.changed(remote_workers=1), make_token) as (_, machine):
        first = await connect(machine)
        await first.work()
        second = await connect(machine, "w2")
        answer = await second.ask("work", worker_id="w2", kinds=["film"], slots=1)
        assert answer["data"]["code"] == "too_many_connections"
        claim = await machine.post("/api/worker/claim", {"worker_id": "h", "kinds": ["film"]})
        assert claim.status == 429
        assert claim.headers["Retry-After"] == "1"
        # A worker that comes back takes its own place.
        again = await connect(machine)
        await again.work()
        assert await first.closed() == 4409


@pytest.mark.gen_test
async def test_frame_that_is_too_large_closes_and_a_body_is_413(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet.changed(remote_frame_bytes=65536), make_token) as (_, machine):
        worker = await connect(machine)
        working = await worker.work()
        assert working["limits"]["frame_bytes"] == 65536
        await worker.socket.write_message("x" * 70_000)
        assert await worker.closed() == 1009
        answer = await machine.send("POST", "/api/worker/ack", b" " * 70_000)
        assert answer.status == 413


@pytest.mark.gen_test
async def test_new_token_that_allows_less_closes(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        for token, code in (
            (make_token("machine", scope="rt:work"), None),
            (make_token("machine", scope="rt:work", kinds="song"), 4403),
            (make_token("machine"), 4403),
        ):
            worker = await connect(machine)
            await worker.work()
            await worker.socket.write_message(
                json.dumps({"type": "auth", "data": {"token": token}})
            )
            if code is None:
                await submit(alice)
                await worker.items("ack", lease(await worker.task(), outcome="completed"))
            else:
                assert await worker.closed() == code
        refused = await alice.socket("/api/ws/worker")
        assert (await frame(refused))["type"] == "error"
        assert await refused.read_message() is None
        assert refused.close_code == 4403


@pytest.mark.gen_test
async def test_workers_are_counted_and_listed(quiet: Settings, make_token: Token) -> None:
    """In the metrics, the statistics, and `run.py queue workers`."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=3, info={"host": "far"})
        await machine.post("/api/worker/claim", {"worker_id": "h1", "kinds": ["film"]})
        assert (await alice.get("/api/ws/stats")).body["remote_workers"] == 1
        text = (await alice.get("/metrics")).body.decode()
        assert 'rt_remote_workers{transport="websocket"} 1.0' in text
        assert 'rt_remote_workers{transport="http"} 1.0' in text
        told = await ACTIONS["workers"].run(alice.core.queue, AskedAction(kind="film"))
        listed = {one["worker_id"]: one for one in map(json.loads, told.lines)}
        assert listed["remote:machine:w1"]["host"] == "far"
        assert listed["remote:machine:w1"]["slots"] == 3
        assert listed["remote:machine:h1"]["transport"] == "http"

        await submit(alice)
        task = await worker.task()
        assert "rt_remote_tasks 1.0" in (await alice.get("/metrics")).body.decode()
        await worker.items("ack", lease(task, outcome="failed"))
        text = (await alice.get("/metrics")).body.decode()
        assert 'rt_tasks_total{kind="film",outcome="failed"} 1.0' in text
        assert "rt_remote_tasks 0.0" in text
        await submit(alice)
        task = await worker.task()
        await alice.delete(f"/api/tasks/{task['task_id']}")
        await worker.event()
        await worker.items("ack", lease(task, outcome="released"))
        text = (await alice.get("/metrics")).body.decode()
        assert 'rt_tasks_total{kind="film",outcome="cancelled"} 1.0' in text
        worker.cut()

        async def is_gone() -> bool:
            return bool((await alice.get("/api/ws/stats")).body["remote_workers"] == 0)

        await until(is_gone)
        told = await ACTIONS["workers"].run(alice.core.queue, AskedAction())
        assert "remote:machine:w1" not in " ".join(told.lines)


@pytest.mark.gen_test
async def test_worker_that_does_not_read_is_closed(quiet: Settings, make_token: Token) -> None:
    """Its answers are bounded, as its tasks are by its places."""
    settings = quiet.changed(remote_frame_bytes=65536)
    async with office(settings, make_token) as (_, machine):
        port = int(machine.url.rpartition(":")[2])
        peer = await Peer.open(port, "/api/ws/worker", machine.token, receive_bytes=4096)
        items = [{"task_id": "t", "token": "1", "odd": "x" * 30}] * 500
        text = json.dumps({"type": "report", "data": {"items": items}}).encode()

        async def is_closed() -> bool:
            peer.send(client_frame(TEXT, text))
            return bool(machine.core.hub.stats().closed_slow)

        await until(is_closed)
        await peer.close()


@pytest.mark.gen_test
async def test_kind_of_the_servers_own_code_stays_as_it_is(
    quiet: Settings, make_token: Token
) -> None:
    """A worker elsewhere may run it; what it says of its parameters counts for nothing."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        declared = {"kind": "analysis", "params_schema": {"type": "object"}, "title": "Mine"}
        await worker.work([declared])
        kinds = (await alice.get("/api/kinds")).body["items"]
        [kind] = [one for one in kinds if one["kind"] == "analysis"]
        assert kind["title"] != "Mine"
        assert kind["workers"] == 1
        task_id = await alice.submit("AAPL")
        task = await worker.task()
        assert task["params"]["symbol"] == "AAPL"
        await worker.items("ack", lease(task, outcome="completed", result={"summary": "fine"}))
        assert (await read(alice, task_id))["result"] == {"summary": "fine"}


@pytest.mark.gen_test
async def test_once_results_together_are_bounded(quiet: Settings, make_token: Token) -> None:
    async with office(quiet.changed(task_result_bytes=100), make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work([{**FILM, "max_attempts": 5}])
        await submit(alice)
        task = await worker.task()
        [told] = await worker.items("report", lease(task, keep={"a": "x" * 60}))
        assert told["state"] == "yours"
        [told] = await worker.items("report", lease(task, keep={"b": "x" * 60}))
        assert "at most 100 are allowed" in told["error"]["message"]
        await worker.items("ack", lease(task, outcome="retry", delay=0))
        again = await worker.task()
        assert again["kept"] == {"a": "x" * 60}
        [told] = await worker.items("report", lease(again, keep={"b": "x" * 60}))
        assert "at most 100 are allowed" in told["error"]["message"]
