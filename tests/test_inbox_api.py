"""The verbs and lists of notifications over HTTP and over a socket, as devices use them."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.websocket import WebSocketClientConnection

from settings import Settings
from tests.api import Client, frame, frame_of, serving
from tests.waiting import until

pytestmark = pytest.mark.long

Token = Callable[..., str]
Json = dict[str, Any]
PATH = "/api/notifications"
STATE = {
    *("id", "status", "seen_at", "read_at", "archived_at", "snoozed_until", "expires_at"),
    *("pinned", "answered"),
}


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


async def make(client: Client, count: int, **more: Any) -> list[str]:
    """Make some; return their ids."""
    ids = []
    for number in range(count):
        body = {"user_id": "alice", "type": "alert", "title": f"n{number}", **more}
        made = await client.post(PATH, body)
        assert made.status == 201, made.body
        ids.append(made.body["id"])
    return ids


async def listed(client: Client, query: str = "") -> list[str]:
    """Return the titles of a list."""
    answer = await client.get(PATH + query)
    assert answer.status == 200, answer.body
    return [one["title"] for one in answer.body["items"]]


async def act(client: Client, verb: str, **body: Any) -> Json:
    """Apply a verb; return the answer."""
    answer = await client.post(f"{PATH}/{verb}", body)
    assert answer.status == 200, answer.body
    assert set(answer.body) == {"changed", "undo", "unread", "unseen", "version"}
    body_: Json = answer.body
    return body_


async def device(client: Client) -> WebSocketClientConnection:
    """Open a second device; return it when it is connected."""
    socket = await client.socket("/api/ws/notifications")
    connected = await frame(socket)
    assert {"unread_count", "unseen_count", "version"} <= connected["data"].keys()
    return socket


# For each verb: the message to a device about a changed notification, and its state then.
TOLD: dict[str, tuple[Json, str]] = {
    "seen": ({"status": "unread", "seen_at": "a time"}, "inbox"),
    "read": ({"status": "read", "read_at": "a time", "seen_at": "a time"}, "inbox"),
    "archive": ({"archived_at": "a time"}, "archived"),
    "snooze": ({"snoozed_until": "a time"}, "snoozed"),
    "pin": ({"pinned": True}, "pinned"),
}
BACK = {"read": "unread", "archive": "unarchive", "snooze": "unsnooze", "pin": "unpin"}
LATER: Json = {"seconds": 3600}


def times(changed: Json) -> Json:
    """Return the fields of one with times as `a time`."""
    named = {name for name in changed if name.endswith(("_at", "_until"))}
    return {n: "a time" if n in named and v is not None else v for n, v in changed.items()}


@pytest.mark.gen_test
@pytest.mark.parametrize("way", ["ids", "all", "filter", "one", "socket"])
@pytest.mark.parametrize("verb", TOLD)
async def test_verb_reaches_a_second_device(
    idle: Settings, make_token: Token, verb: str, way: str
) -> None:
    """Each way of asking for it gives the same; and back again."""
    async with serving(idle, make_token("alice")) as alice:
        [id_] = await make(alice, 1)
        other = await device(alice)
        await ask(alice, other, verb, way, id_)
        changed = await frame_of(other, "changed")
        [item] = changed["data"]["items"]
        assert item.keys() >= STATE
        assert changed["data"]["deleted"] == []
        expected, state = TOLD[verb]
        assert times(item).items() >= {"id": id_, **expected}.items()
        counts = (await frame_of(other, "unread_count"))["data"]
        assert counts == (await alice.get(f"{PATH}/unread_count")).body
        assert await listed(alice, f"?state={state}") == ["n0"]
        assert (await alice.get(f"{PATH}/{id_}")).body == item
        if verb in BACK:
            await ask(alice, other, BACK[verb], "one", id_)
            [item] = (await frame_of(other, "changed"))["data"]["items"]
            unchanged = {"status": "unread", "archived_at": None, "snoozed_until": None}
            assert item.items() >= {**unchanged, "pinned": False, "read_at": None}.items()
            assert await listed(alice) == ["n0"]


async def ask(
    client: Client, socket: WebSocketClientConnection, verb: str, way: str, id_: str
) -> None:
    """Ask for a verb on one, in one of the ways."""
    more = LATER if verb == "snooze" else {}
    named: dict[str, Json] = {
        "ids": {"ids": [id_]},
        "socket": {"ids": [id_]},
        "all": {"all": True},
        "filter": {"filter": {"type": ["alert"], "q": "N0"}},
    }
    if way == "socket":
        await socket.write_message(json.dumps({"type": verb, "data": {**named[way], **more}}))
    elif way == "one":
        answer = await client.post(f"{PATH}/{id_}/{verb}", more or None)
        assert (answer.status, answer.body["id"]) == (200, id_)
    else:
        assert (await act(client, verb, **named[way], **more))["changed"] == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("way", ["ids", "all", "filter", "one", "socket", "DELETE"])
async def test_deletion_reaches_a_second_device(
    idle: Settings, make_token: Token, way: str
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        [id_] = await make(alice, 1)
        other = await device(alice)
        if way == "DELETE":
            assert (await alice.delete(f"{PATH}/{id_}")).status == 204
        elif way == "one":
            assert (await alice.post(f"{PATH}/{id_}/delete")).status == 204
        else:
            await ask(alice, other, "delete", way, id_)
        changed = (await frame_of(other, "changed"))["data"]
        assert (changed["items"], changed["deleted"]) == ([], [id_])
        assert (await frame_of(other, "unread_count"))["data"]["unread"] == 0
        assert await listed(alice, "?state=all") == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/read"), ("POST", "/delete")):
            assert (await alice.send(method, f"{PATH}/{id_}{path}")).status == 404


@pytest.mark.gen_test
async def test_marking_as_read_is_told_in_the_words_of_before_too(
    idle: Settings, make_token: Token
) -> None:
    """For devices that know no `changed`; behind it."""
    async with serving(idle, make_token("alice")) as alice:
        ids = await make(alice, 2)
        other = await device(alice)
        await act(alice, "read", ids=[ids[0]])
        told = [await frame(other) for _ in range(3)]
        assert [one["type"] for one in told] == ["changed", "read", "unread_count"]
        assert told[1]["data"] == {"ids": [ids[0]]}
        assert told[2]["data"] == {"unread": 1, "unseen": 1, "version": 3}
        assert (await alice.post(f"{PATH}/read_all")).body == {"marked": 1}
        assert (await frame_of(other, "read"))["data"] == {"ids": [ids[1]]}
        assert (await frame_of(other, "read"))["data"] == {"all": True}


@pytest.mark.gen_test
async def test_some_all_and_those_of_a_filter_are_changed_and_no_others(
    idle: Settings, make_token: Token
) -> None:
    """Others' and unknown ids are passed over; a second time changes nothing."""
    async with serving(idle, make_token("alice")) as alice:
        bob = alice.as_user(make_token("bob", scope="rt:publish"))
        ids = await make(alice, 4)
        errors = await make(alice, 2, severity="error")
        theirs = (await bob.post(PATH, {"user_id": "bob", "type": "alert", "title": "x"})).body
        done = await act(alice, "read", ids=[*ids[:2], theirs["id"], "nothing", "0" * 24])
        assert (done["changed"], done["unread"], done["unseen"]) == (2, 4, 4)
        again = await act(alice, "read", ids=ids[:2])
        assert (again["changed"], again["undo"], again["version"]) == (0, None, done["version"])
        await act(alice, "archive", filter={"severity": ["error"]})
        assert await listed(alice) == ["n3", "n2", "n1", "n0"]
        assert (await act(alice, "seen", all=True))["changed"] == 2
        assert (await act(alice, "delete", filter={"state": "archived"}))["changed"] == 2
        assert await listed(alice, "?state=archived") == []
        assert (await alice.get(f"{PATH}/{errors[0]}")).status == 404
        assert (await act(alice, "delete", all=True))["changed"] == 4
        assert (await bob.get(PATH)).body["unread"] == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("verb", [*TOLD, "delete"])
async def test_what_a_verb_did_is_taken_back_on_all_devices(
    idle: Settings, make_token: Token, verb: str
) -> None:
    """Each is as before, in its place of the list; a second undo changes nothing."""
    async with serving(idle, make_token("alice")) as alice:
        ids = await make(alice, 3)
        before = [(await alice.get(f"{PATH}/{id_}")).body for id_ in ids]
        other = await device(alice)
        more = LATER if verb == "snooze" else {}
        done = await act(alice, verb, ids=ids[:2], **more)
        await frame_of(other, "changed")
        undone = await alice.post(f"{PATH}/undo", {"undo": done["undo"]})
        assert (undone.status, undone.body["changed"]) == (200, 2)
        assert (undone.body["unread"], undone.body["unseen"]) == (3, 3)
        changed = (await frame_of(other, "changed"))["data"]
        assert {one["id"] for one in changed["items"]} == set(ids[:2])
        after = [(await alice.get(f"{PATH}/{id_}")).body for id_ in ids]
        assert after == before
        assert await listed(alice) == ["n2", "n1", "n0"]
        again = await alice.post(f"{PATH}/undo", {"undo": done["undo"]})
        assert (again.status, again.body["changed"]) == (200, 0)


@pytest.mark.gen_test
async def test_undo_of_many_and_of_anothers(idle: Settings, make_token: Token) -> None:
    """More than one write changes are taken back together; a token is its user's."""
    async with serving(idle, make_token("alice")) as alice:
        await asyncio.gather(*(make(alice, 1) for _ in range(120)))
        done = await act(alice, "archive", all=True)
        assert (done["changed"], done["unread"]) == (120, 0)
        bob = alice.as_user(make_token("bob"))
        theirs = await bob.post(f"{PATH}/undo", {"undo": done["undo"]})
        assert theirs.body["changed"] == 0
        undone = (await alice.post(f"{PATH}/undo", {"undo": done["undo"]})).body
        assert (undone["changed"], undone["unread"]) == (120, 120)


@pytest.mark.gen_test
async def test_one_is_put_off_until_a_time_or_for_seconds(
    idle: Settings, make_token: Token
) -> None:
    """It comes back by itself, as a notification on every device."""
    async with serving(idle, make_token("alice")) as alice:
        first, second = await make(alice, 2)
        other = await device(alice)
        until_ = datetime.now(UTC) + timedelta(days=2)
        put_off = await alice.post(f"{PATH}/{first}/snooze", {"until": until_.isoformat()})
        shown = datetime.fromisoformat(put_off.body["snoozed_until"])
        assert abs(shown - until_) < timedelta(milliseconds=2)
        await act(alice, "snooze", ids=[second], seconds=2)
        assert await listed(alice) == []
        back = await frame_of(other, "notification")
        assert (back["data"]["id"], back["data"]["snoozed_until"]) == (second, None)
        assert await listed(alice) == ["n1"]
        assert await listed(alice, "?state=snoozed") == ["n0"]
        assert (await alice.post(f"{PATH}/{first}/unsnooze")).status == 200
        # In its place again: it was not waited for.
        assert await listed(alice) == ["n1", "n0"]


BAD: list[tuple[str, Any, int]] = [
    ("read", {}, 422),
    ("read", {"ids": []}, 422),
    ("read", {"ids": "x"}, 422),
    ("read", {"ids": [1]}, 422),
    ("read", {"ids": ["x"] * 1001}, 422),
    ("read", {"ids": ["x"], "all": True}, 422),
    ("read", {"all": False}, 422),
    ("read", {"all": "yes"}, 422),
    ("read", {"all": True, "filter": {}}, 422),
    ("read", {"filter": {"state": "lost"}}, 422),
    ("read", {"filter": {"severity": ["loud"]}}, 422),
    ("read", {"filter": {"type": ["No!"]}}, 422),
    ("read", {"filter": {"since": "yesterday"}}, 422),
    ("read", {"filter": {"limit": 5}}, 422),
    ("read", {"everything": True}, 422),
    ("read", [], 422),
    ("read", b"{", 400),
    ("snooze", {"all": True}, 422),
    ("snooze", {"all": True, "seconds": 0}, 422),
    ("snooze", {"all": True, "seconds": -1}, 422),
    ("snooze", {"all": True, "seconds": 1e300}, 422),
    ("snooze", {"all": True, "seconds": "60"}, 422),
    ("snooze", {"all": True, "until": "2020-01-01T00:00:00Z"}, 422),
    ("snooze", {"all": True, "until": "9999-01-01T00:00:00Z"}, 422),
    ("snooze", {"all": True, "until": "tomorrow"}, 422),
    ("snooze", {"all": True, "until": "2100-01-01T00:00:00"}, 422),
    ("snooze", {"all": True, "until": "2100-01-01T00:00:00Z", "seconds": 5}, 422),
    ("undo", {}, 422),
    ("undo", {"undo": 5}, 422),
    ("undo", {"undo": ""}, 422),
    ("undo", {"undo": "x"}, 404),
    ("undo", {"undo": "1.x"}, 404),
    ("undo", {"undo": "-1"}, 404),
    ("undo", {"undo": ".".join(["1"] * 101)}, 404),
    ("undo", {"undo": "9" * 1000}, 404),
    ("explode", {"all": True}, 405),
]


@pytest.mark.gen_test
async def test_wrong_body_is_refused_and_changes_nothing(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        [id_] = await make(alice, 1)
        for path, body, status in BAD:
            answer = await alice.post(f"{PATH}/{path}", body)
            assert (answer.status, path, body) == (status, path, body)
            assert answer.headers["Content-Type"] == "application/problem+json"
        for body in ({}, {"seconds": 0}, {"ids": [id_]}, {"until": "x"}):
            assert (await alice.post(f"{PATH}/{id_}/snooze", body)).status == 422
        assert (await alice.post(f"{PATH}/{id_}/explode")).status == 404
        page = (await alice.get(PATH)).body
        assert (page["version"], page["unread"]) == (1, 1)


QUERIES: list[tuple[str, int]] = [
    ("state=lost", 400),
    ("status=gone", 400),
    ("severity=loud", 400),
    ("type=No!", 400),
    ("since=yesterday", 400),
    ("until=2030-01-01T00:00:00", 400),
    ("limit=0", 400),
    ("limit=101", 400),
    ("limit=1e1", 400),
    ("page=0", 400),
    ("page=99999999", 400),
    ("page_size=-1", 400),
    ("total=perhaps", 400),
    ("before=nothing", 404),
    ("before=" + "x" * 65, 400),
    ("q=" + "x" * 201, 400),
    ("type=" + ",".join("a" * 21), 400),
]


@pytest.mark.gen_test
async def test_wrong_query_is_refused(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        for query, status in QUERIES:
            answer = await alice.get(f"{PATH}?{query}")
            assert (answer.status, query) == (status, query)
            assert answer.body["detail"]


@pytest.mark.gen_test
async def test_list_is_filtered_by_its_query(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        await make(alice, 3)
        await make(alice, 2, type="order.paid", severity="success", source="shop")
        assert len(await listed(alice, "?type=order.paid,other")) == 2
        assert len(await listed(alice, "?type=order.paid&type=alert")) == 5
        assert len(await listed(alice, "?severity=success&source=shop")) == 2
        assert await listed(alice, "?q=N2") == ["n2"]
        made = (await alice.get(PATH)).body["items"]
        since = made[1]["created_at"].replace("+", "%2B")
        assert len(await listed(alice, f"?since={since}")) >= 2
        page = (await alice.get(f"{PATH}?limit=2&total=true")).body
        assert set(page) == {"items", "next", "unread", "unseen", "version", "total"}
        assert (len(page["items"]), page["total"], page["unread"]) == (2, 5, 5)
        behind = (await alice.get(f"{PATH}?limit=3&before={page['next']}")).body
        assert ([one["title"] for one in behind["items"]], behind["next"]) == (
            ["n2", "n1", "n0"],
            None,
        )


@pytest.mark.gen_test
async def test_list_over_the_socket_answers_its_ref(idle: Settings, make_token: Token) -> None:
    """The same as over HTTP; each answer names its request, whatever names that."""
    async with serving(idle, make_token("alice")) as alice:
        await make(alice, 3)
        socket, other = await device(alice), await device(alice)
        page = (await alice.get(f"{PATH}?limit=2")).body
        for ref in ("a", 7, {"n": [1]}):
            asked = {"type": "list", "ref": ref, "data": {"limit": 2}}
            await socket.write_message(json.dumps(asked))
            assert await frame(socket) == {"type": "list", "data": {"ref": ref, **page}}
        await socket.write_message(json.dumps({"type": "list", "data": {}}))
        without = (await frame(socket))["data"]
        assert "ref" not in without
        assert len(without["items"]) == 3
        query = {"type": ["alert"], "before": page["next"], "total": True}
        await socket.write_message(json.dumps({"type": "list", "ref": 1, "data": query}))
        found = (await frame(socket))["data"]
        assert ([one["title"] for one in found["items"]], found["total"]) == (["n0"], 3)
        for wrong in ({"limit": 0}, {"limit": "2"}, {"before": "nothing"}, [], 5, {"x": 1}):
            await socket.write_message(json.dumps({"type": "list", "ref": 1, "data": wrong}))
            assert (await frame(socket))["type"] == "error"
        # Nobody else was answered.
        await make(alice, 1)
        assert (await frame(other))["type"] == "notification"


@pytest.mark.gen_test
async def test_verb_over_the_socket_answers_its_ref_and_is_taken_back_there(
    idle: Settings, make_token: Token
) -> None:
    """A device that names no request hears of it as all devices do."""
    async with serving(idle, make_token("alice")) as alice:
        await make(alice, 2)
        socket, other = await device(alice), await device(alice)

        async def ask(type_: str, data: dict[str, Any]) -> dict[str, Any]:
            asked = {"type": type_, "ref": {"n": 1}, "data": data}
            await socket.write_message(json.dumps(asked))
            done: dict[str, Any] = (await frame_of(socket, "done"))["data"]
            assert done.pop("ref") == {"n": 1}
            return done

        done = await ask("archive", {"all": True})
        undo = done.pop("undo")
        assert done == {"changed": 2, "unread": 0, "unseen": 0, "version": 3}
        assert await ask("undo", {"undo": undo}) == {
            "changed": 2,
            "undo": None,
            "unread": 2,
            "unseen": 2,
            "version": 4,
        }
        await socket.write_message(json.dumps({"type": "read", "data": {"all": True}}))
        types = [(await frame(other))["type"] for _ in range(7)]
        assert set(types) == {"changed", "unread_count", "read"}
        await socket.write_message(json.dumps({"type": "undo", "ref": 5, "data": {"undo": "x"}}))
        error = (await frame_of(socket, "error"))["data"]
        assert (error["code"], error["ref"]) == ("not_found", 5)


@pytest.mark.gen_test
async def test_action_is_answered_over_the_socket(idle: Settings, make_token: Token) -> None:
    """Once; an action that there is not, and a second answer, are told with the request's name."""
    async with serving(idle, make_token("alice")) as alice:
        offers = [{"id": "yes", "label": "Yes", "answer": True}]
        body = {"user_id": "alice", "type": "a", "title": "T", "actions": offers}
        id_ = (await alice.post(PATH, body)).body["id"]
        socket = await device(alice)

        async def answer(action: str, type_: str) -> dict[str, Any]:
            data = {"id": id_, "action": action}
            await socket.write_message(json.dumps({"type": "answer", "ref": action, "data": data}))
            told: dict[str, Any] = (await frame_of(socket, type_))["data"]
            assert told["ref"] == action
            return told

        assert (await answer("no", "error"))["code"] == "not_found"
        answered = (await answer("yes", "done"))["notification"]
        assert (answered["id"], answered["answered"]["action"]) == (id_, "yes")
        again = await answer("yes", "error")
        assert (again["code"], "answered before" in again["message"]) == ("conflict", True)
        for wrong in ({}, {"id": id_}, {"id": "", "action": "yes"}, {"id": id_, "action": 1}, []):
            await socket.write_message(json.dumps({"type": "answer", "ref": 1, "data": wrong}))
            assert (await frame_of(socket, "error"))["data"]["code"] == "bad_message"


@pytest.mark.gen_test
async def test_wrong_verb_over_the_socket_gets_an_error(idle: Settings, make_token: Token) -> None:
    """The socket stays, and nothing has changed."""
    async with serving(idle, make_token("alice")) as alice:
        await make(alice, 1)
        socket = await device(alice)
        for verb in ("seen", "read", "archive", "delete", "snooze"):
            for data in ({}, {"ids": []}, {"ids": [5]}, {"all": False}, {"filter": {"q": 5}}, 7):
                await socket.write_message(json.dumps({"type": verb, "data": data}))
                assert (await frame(socket))["type"] == "error"
        await socket.write_message(json.dumps({"type": "snooze", "data": {"all": True}}))
        assert (await frame(socket))["type"] == "error"
        await socket.write_message(json.dumps({"type": "ping"}))
        assert (await frame(socket))["type"] == "heartbeat"
        assert (await alice.get(PATH)).body["version"] == 1


ACTIONS = [
    {"id": "yes", "label": "Yes", "answer": True},
    {"id": "no", "label": "No", "answer": True},
    {"id": "look", "label": "Look", "link": "/x"},
]


@pytest.mark.gen_test
async def test_action_is_answered_once_on_all_devices(idle: Settings, make_token: Token) -> None:
    """The second answer gets 409, whichever it is; nobody answers for another."""
    async with serving(idle, make_token("alice")) as alice:
        [id_] = await make(alice, 1, actions=ACTIONS)
        other = await device(alice)
        bob = alice.as_user(make_token("bob"))
        path = f"{PATH}/{id_}/actions"
        for client, action in ((bob, "yes"), (alice, "perhaps"), (alice, "look")):
            assert (await client.post(f"{path}/{action}")).status == 404
        answers = await asyncio.gather(*(alice.post(f"{path}/{one}") for one in ("yes", "no")))
        assert sorted(one.status for one in answers) == [200, 409]
        [first] = [one.body for one in answers if one.status == 200]
        assert first["answered"]["action"] in ("yes", "no")
        assert (first["status"], first["answered"]["at"] is None) == ("read", False)
        changed = (await frame_of(other, "changed"))["data"]
        assert changed["items"] == [first]
        assert (await alice.post(f"{path}/yes")).status == 409
        assert (await alice.get(f"{PATH}/{id_}")).body == first


@pytest.mark.gen_test
async def test_device_that_was_away_is_told_all_that_changed(
    idle: Settings, make_token: Token
) -> None:
    """It ends up with what a list shows."""
    async with serving(idle, make_token("alice")) as alice:
        ids = await make(alice, 5)
        socket = await alice.socket("/api/ws/notifications")
        begin = (await frame(socket))["id"]
        known = {one["id"]: one for one in (await alice.get(f"{PATH}?state=all")).body["items"]}
        socket.close()
        await act(alice, "read", ids=ids[:2])
        await act(alice, "archive", ids=[ids[2]])
        await act(alice, "delete", ids=[ids[3]])
        await act(alice, "snooze", ids=[ids[4]], **LATER)
        await make(alice, 1, title="new")
        back = await alice.socket(f"/api/ws/notifications?last_id={begin}")
        connected = await frame(back)
        assert connected["data"]["recovered"]
        version = connected["data"]["version"]
        while True:
            message = await frame(back)
            data = message["data"]
            new = [data] if message["type"] == "notification" else data.get("items", [])
            known |= {one["id"]: one for one in new}
            for id_ in data.get("deleted", []):
                known.pop(id_, None)
            if message.get("id", "").endswith(f"-{version}"):
                break
        everything = (await alice.get(f"{PATH}?state=all")).body["items"]
        assert known == {one["id"]: one for one in everything}


@pytest.mark.gen_test
async def test_old_forms_of_the_api_stay(idle: Settings, make_token: Token) -> None:
    """`read` of one, `read_all`, and the count under its name."""
    async with serving(idle, make_token("alice")) as alice:
        ids = await make(alice, 3)
        assert (await alice.post(f"{PATH}/{ids[0]}/read")).body["status"] == "read"
        assert (await alice.get(f"{PATH}/unread_count")).body["unread"] == 2
        assert (await alice.post(f"{PATH}/read_all")).body == {"marked": 2}
        await until(lambda: _none_is_unread(alice))


async def _none_is_unread(client: Client) -> bool:
    return bool((await client.get(PATH)).body["unread"] == 0)
