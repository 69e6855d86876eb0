"""The parts of the Python client's worker that do no I/O, without a server."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SECRET
from tornado_rt.work import Kind, Plan, Run, Schedule, Step
from tornado_rt_client import Mint, Worker
from tornado_rt_client.command import credentials, options, parse
from tornado_rt_client.errors import BadRequest, ProtocolError
from tornado_rt_client.tokens import expiry_of
from tornado_rt_client.worker.connection import MOST_BLOCKED, POLLING_SECONDS, Route, Transport
from tornado_rt_client.worker.items import ack_item, declaration_of, read_task
from tornado_rt_client.worker.outbox import Bounds, Item, Outbox, Verb
from tornado_rt_client.worker.parts import Ack, Outcome
from tornado_rt_client.worker.session import Answered, Began, Lost, Session, fault_of

TASK = {
    "task_id": "t1",
    "token": "7",
    "kind": "k",
    "label": "one",
    "user_id": "u",
    "batch_id": None,
    "attempt": 2,
    "params": {"a": 1},
    "timeout": 5.0,
    "budget_seconds": 60.0,
    "budget_left": 20.0,
    "plan": [{"name": "first", "weight": 1.0}],
    "kept": {"made": {"x": [1]}},
    "state": {"at": 3},
}
KEY = ("t1", "7")
NAMED = {"task_id": "t1", "token": "7"}


def told_of(items: list[Item]) -> list[Any]:
    return [json.loads(one.content) for one in items]


def nothing(_: dict[str, Any]) -> None:
    """Take an answer."""


def put(outbox: Outbox, *contents: str, verb: Verb = Verb.REPORT) -> None:
    for content in contents:
        outbox.put(Item(verb, json.dumps(content).encode(), nothing))


def test_outbox_sends_what_waits_in_bounded_batches() -> None:
    """In its order; one that is too large alone is sent alone."""
    outbox = Outbox()
    put(outbox, "a", "b", "c", "d" * 3000, "e")
    batches = [told_of(batch.items) for batch in outbox.take(Bounds(2000, 2))]
    assert batches == [["a", "b"], ["c"], ["d" * 3000], ["e"]]
    assert list(outbox.take(Bounds())) == []
    assert len(outbox) == 5


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(1, 5), st.data())
def test_outbox_loses_and_doubles_nothing(
    contents: list[str], items: int, data: st.DataObject
) -> None:
    """The connection may be cut, refused for a while, and answered, in any order."""
    outbox, answered = Outbox(), list[str]()

    def answer(content: str) -> Callable[[dict[str, Any]], None]:
        return lambda _: answered.append(content)

    for content in contents:
        outbox.put(Item(Verb.ACK, json.dumps(content).encode(), answer(content)))
    while len(outbox):
        for batch in list(outbox.take(Bounds(items=items))):
            fate = data.draw(st.sampled_from(["answered", "again", "cut"]))
            if fate == "answered":
                outbox.answer(batch.ref, Verb.ACK, [{}] * len(batch.items))
            elif fate == "again":
                outbox.again(batch.ref)
            else:
                outbox.all_again()
                break
    assert sorted(answered) == sorted(contents)


def test_outbox_repeats_in_order_what_was_not_answered() -> None:
    """Before what came later."""
    outbox = Outbox()
    put(outbox, "a", "b")
    first, second = outbox.take(Bounds(items=1))
    put(outbox, "c")
    outbox.all_again()
    [batch] = outbox.take(Bounds())
    assert told_of(list(batch.items)) == ["a", "b", "c"]
    with pytest.raises(ProtocolError):
        outbox.answer(first.ref, Verb.REPORT, [{}])
    with pytest.raises(ProtocolError):
        outbox.answer(batch.ref, Verb.ACK, [{}, {}, {}])
    for wrong in (None, [], [{}], "abc"):
        with pytest.raises(ProtocolError):
            outbox.answer(batch.ref, Verb.REPORT, wrong)
    outbox.answer(batch.ref, Verb.REPORT, [{}, None, {}])
    assert len(outbox) == 0
    assert second.ref != batch.ref


def test_task_is_read_with_all_that_earlier_attempts_left() -> None:
    given_ = read_task(TASK)
    task = given_.claim.task
    assert (given_.key, task.label, task.params, task.attempt) == (KEY, "one", {"a": 1}, 2)
    assert (task.job.timeout, task.job.budget_seconds, task.used_seconds) == (5.0, 60.0, 40.0)
    assert given_.claim.plan == Plan([Step("first")]).digest
    assert given_.claim.kept
    assert (given_.kept.results, given_.kept.state) == ({"made": b'{"x":[1]}'}, b'{"at":3}')


@pytest.mark.parametrize("missing", ["task_id", "token", "kind", "label", "params", "attempt"])
def test_task_that_cannot_be_read_is_an_error_of_the_server(missing: str) -> None:
    with pytest.raises(ProtocolError, match="no task"):
        read_task({name: value for name, value in TASK.items() if name != missing})
    with pytest.raises(ProtocolError):
        read_task({**TASK, "plan": 3})


@attrs.frozen
class Params:
    """Parameters."""

    path: str
    size: int = 3


def test_declaration_says_what_submitters_need() -> None:
    """But for what takes the kind's own code."""
    kind = Kind(
        "k",
        Params,
        title="Kind",
        label="of {path}",
        steps=["a", Step("b", 2)],
        limit=3,
        rate="5/s",
        timeout=9,
        expected_seconds=4,
    )
    told = declaration_of(kind)
    assert told["params_schema"]["required"] == ["path"]
    assert told["plan"] == [{"name": "a", "weight": 1.0}, {"name": "b", "weight": 2.0}]
    assert told["limits"] == {
        "limit": 3,
        "user_limit": 0,
        "key_limit": 0,
        "rate": "5/s",
        "key_rate": "",
    }
    assert (told["label"], told["timeout"], told["expected_seconds"]) == ("of {path}", 9, 4)
    own = declaration_of(
        Kind("k", Params, label=str, steps=lambda _: ["a"], expected_seconds=lambda _: 3)
    )
    assert (own["label"], own["plan"], own["expected_seconds"]) == ("", None, None)


def test_end_carries_its_delay_and_the_last_report_that_was_not_told() -> None:
    """A delay of 0 too, for without one the server chooses it."""
    again = json.loads(ack_item(Ack(*KEY, Outcome.RETRY, error="later", report=b'"progress":5')))
    assert again == {
        **NAMED,
        "outcome": "retry",
        "error": "later",
        "delay": 0.0,
        "snapshot": {"progress": 5},
    }
    done = json.loads(ack_item(Ack(*KEY, Outcome.COMPLETED, result=[1], fragment=Run().fragment())))
    assert done == {**NAMED, "outcome": "completed", "result": [1]}


class Wire:
    """A session, and what it says."""

    def __init__(self, slots: int = 2) -> None:
        self.woken = 0
        self.session = Session("w", [{"kind": "k"}], slots, {}, self._wake)

    def work(self, *running: dict[str, Any], now: float = 0.0, **limits: int) -> None:
        """Connect, and have the server answer."""
        self.hello = json.loads(self.session.hello())
        self.receive("working", {"running": list(running), "extend_seconds": 9, "limits": limits})

    def receive(self, kind: str, data: Any, now: float = 0.0, **more: Any) -> None:
        self.session.receive(json.dumps({"type": kind, "data": data, **more}), now)

    def frames(self, now: float = 0.0) -> list[Any]:
        return [json.loads(frame) for frame in self.session.frames(now)]

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def wire() -> Wire:
    """A session that works and holds a task."""
    wire = Wire()
    wire.work()
    wire.receive("tasks", {"items": [TASK]})
    assert wire.session.take_news() == [Began(read_task(TASK))] or wire.session.held
    return wire


def test_session_says_nothing_before_the_server_has_taken_the_worker() -> None:
    """Then it says what waited; the bounds are the server's."""
    wire = Wire()
    wire.session.tell(Verb.REPORT, b"{}", nothing)
    assert wire.frames() == []
    wire.work(frame_bytes=70_000, items=7, result_bytes=5)
    assert wire.hello == {
        "type": "work",
        "data": {"worker_id": "w", "kinds": [{"kind": "k"}], "slots": 2, "running": [], "info": {}},
    }
    assert [frame["type"] for frame in wire.frames()] == ["report"]
    assert wire.session.bounds == Bounds(70_000, 7)
    assert (wire.session.result_bytes, wire.session.extend_seconds) == (5, 9.0)


def test_task_that_is_sent_twice_is_one(wire: Wire) -> None:
    wire.receive("tasks", {"items": [TASK, {**TASK, "token": "8"}]})
    assert [one.given.key for one in wire.session.take_news() if isinstance(one, Began)] == [
        ("t1", "8")
    ]
    assert wire.session.room == 0


def test_slot_is_free_when_the_end_is_answered(wire: Wire) -> None:
    became: list[Any] = []
    wire.session.end(Ack(*KEY, Outcome.COMPLETED), became.append)
    [frame] = wire.frames()
    assert frame["data"]["items"] == [{**NAMED, "outcome": "completed"}]
    assert wire.session.room == 1
    wire.receive("acked", {"items": [{**NAMED, "became": "completed"}]}, ref=frame["ref"])
    assert (wire.session.room, became) == (2, [{**NAMED, "became": "completed"}])


def test_what_was_not_answered_is_said_again_after_a_cut(wire: Wire) -> None:
    """With all that is held, also if its end was not answered."""
    wire.session.end(Ack(*KEY, Outcome.COMPLETED), nothing)
    [before] = wire.frames()
    wire.session.cut()
    assert wire.frames() == []
    wire.work({**NAMED, "state": "yours"})
    assert wire.hello["data"]["running"] == [NAMED]
    [after] = wire.frames()
    assert after["data"] == before["data"]
    assert wire.session.take_news() == []


@pytest.mark.parametrize("state", ["cancelled", "lost", None])
def test_attempt_that_is_not_ours_after_a_return_is_lost(wire: Wire, state: str | None) -> None:
    """Also one that the server does not name."""
    wire.session.cut()
    wire.work(*([] if state is None else [{**NAMED, "state": state}]))
    assert wire.session.take_news() == [Lost(KEY)]


def test_attempt_that_is_ours_goes_on_and_looks_for_answers(wire: Wire) -> None:
    wire.session.cut()
    wire.work({**NAMED, "state": "yours"})
    assert wire.session.take_news() == [Answered(KEY)]
    wire.receive("events", {"items": [{"event": "answer", **NAMED}]})
    wire.receive("events", {"items": [{"event": "cancelled", **NAMED}]})
    assert wire.session.take_news() == [Answered(KEY), Lost(KEY)]
    wire.receive("events", {"items": [{"event": "lost", "task_id": "other", "token": "1"}]})
    assert wire.session.take_news() == []


def test_leases_are_extended_one_request_at_a_time(wire: Wire) -> None:
    """An answer that the attempt is lost ends it."""
    wire.session.extend()
    wire.session.extend()
    [frame] = wire.frames()
    assert (frame["type"], frame["data"]["items"]) == ("extend", [NAMED])
    wire.receive("extended", {"items": [{**NAMED, "state": "yours"}]}, ref=frame["ref"])
    assert wire.session.take_news() == []
    wire.session.extend()
    [frame] = wire.frames()
    wire.receive("extended", {"items": [{**NAMED, "state": "lost"}]}, ref=frame["ref"])
    assert wire.session.take_news() == [Lost(KEY)]
    wire.session.release(KEY)
    wire.session.extend()
    assert [frame["type"] for frame in wire.frames()] == ["ack"]


def test_frame_that_cannot_be_done_now_is_said_again_after_a_second(wire: Wire) -> None:
    """Another refusal is the answer to each of its items."""
    answers: list[Any] = []
    wire.session.tell(Verb.REPORT, b"{}", answers.append)
    [frame] = wire.frames()
    wire.receive("error", {"code": "degraded", "message": "Redis is away"}, 5.0, ref=frame["ref"])
    assert wire.frames(5.5) == []
    assert wire.session.pause(5.5) == 0.5
    [again] = wire.frames(6.0)
    assert (again["data"], answers) == (frame["data"], [])
    wire.receive("error", {"code": "bad_request", "message": "no"}, 6.0, ref=again["ref"])
    assert isinstance(fault_of(answers[0]), BadRequest)
    assert wire.frames(6.0) == []


def test_refusal_of_the_worker_ends_it() -> None:
    wire = Wire()
    wire.session.hello()
    with pytest.raises(BadRequest, match="slots must be"):
        wire.receive("error", {"code": "bad_request", "message": "slots must be at most 3"})
    wire.receive("error", {"code": "degraded", "message": "Redis is away"}, 1.0)
    assert wire.session.pause(1.0) == 1.0


def test_drain_is_said_once_a_connection_and_asks_for_nothing(wire: Wire) -> None:
    wire.session.drain()
    assert [frame["type"] for frame in wire.frames()] == ["drain"]
    assert wire.frames() == []
    assert wire.session.room == 0
    wire.session.cut()
    wire.work({**NAMED, "state": "yours"})
    assert wire.hello["data"]["slots"] == 0
    assert [frame["type"] for frame in wire.frames()] == ["drain"]


@given(
    st.one_of(
        st.binary(max_size=30),
        st.text(max_size=30).map(str.encode),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "data", "items", "ref", "running", "state"]), inner
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
        st.builds(
            lambda kind, data: json.dumps({"type": kind, "data": data}).encode(),
            st.sampled_from(["tasks", "events", "working", "acked", "error", "reported", "x"]),
            st.dictionaries(
                st.sampled_from(["items", "running", "code", "limits", "extend_seconds"]),
                st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers()),
            ),
        ),
    )
)
def test_whatever_the_server_sends_is_taken_or_refused(content: bytes) -> None:
    """By an error that the worker answers with another connection, never by its end."""
    with contextlib.suppress(ProtocolError):
        Wire().session.receive(content, 0.0)


def test_http_is_used_for_a_while_when_no_websocket_gets_through() -> None:
    """After two in a row, unless one transport was chosen."""
    route = Route(Transport.AUTO)
    assert not route.note_blocked(0.0)
    route.opened()
    assert [route.note_blocked(1.0) for _ in range(MOST_BLOCKED)] == [False, True]
    assert route.polls(1.0 + POLLING_SECONDS / 2)
    assert not route.polls(1.0 + POLLING_SECONDS)
    # It is not tried again for that long.
    assert route.note_blocked(2.0 + POLLING_SECONDS)
    only = Route(Transport.WEBSOCKET)
    assert not any(only.note_blocked(0.0) for _ in range(9))
    assert not only.polls(0.0)
    assert Route(Transport.HTTP).polls(0.0)


def test_expiry_of_a_token_is_read_without_its_key() -> None:
    assert expiry_of(Mint(SECRET, "u", clock=lambda: 1000.0)()) == 1300
    assert expiry_of("opaque") is None


def test_command_reads_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address from the environment, the token from there or from a file."""
    monkeypatch.setenv("RT_URL", "http://rt")
    given_ = parse(["worker", "--kinds", "a,b.py", "--kinds", "c", "--concurrency", "9"])
    assert (given_.url, given_.kinds) == ("http://rt", ["a", "b.py", "c"])
    assert options(given_)["concurrency"] == 9
    assert credentials(given_, {"RT_TOKEN": "t", "RT_JWT_SECRET": "s"}) == {"token": "t"}
    assert credentials(given_, {"RT_JWT_SECRET": "s"}) == {"secret": "s"}
    with pytest.raises(ValueError, match="give a token"):
        credentials(given_, {})
    monkeypatch.delenv("RT_URL")
    with pytest.raises(SystemExit):
        parse(["worker", "--kinds", "a"])
    assert "give the server's address" in capsys.readouterr().err


def test_token_file_is_read_each_time(tmp_path: Any) -> None:
    """Another program replaces the token to renew it."""
    path = tmp_path / "token"
    path.write_text("first\n")
    given_ = parse(["worker", "--url", "http://rt", "--kinds", "a", "--token-file", str(path)])
    source = credentials(given_, {})["token"]
    assert source() == "first"
    path.write_text("second\n")
    assert source() == "second"
    path.unlink()
    with pytest.raises(OSError, match="token"):
        credentials(given_, {})


def test_schedules_are_told_not_to_be_kept_here(caplog: pytest.LogCaptureFixture) -> None:
    """They are those of a server that loads the kind."""
    kind = Kind("k", attrs.make_class("Nothing", []), schedules=[Schedule(name="s", every=60)])
    kind.handler(lambda params, run: None)
    Worker("http://localhost", [kind], secret=SECRET)
    assert "the schedules of kind 'k'" in caplog.text
