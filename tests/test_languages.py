"""Texts for an end user are in the language that they read, wherever the texts come from."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Answer, Client, event_of, frame, frame_of, serving
from tests.documents import Operation, load_once, operations
from tests.waiting import until
from tornado_rt.auth import ADMIN, PUBLISH, WORK

Token = Callable[..., str]
CHINESE = re.compile("[\u4e00-\u9fff]")
IN_CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.1"}
OWN = """
import attrs
from tornado_rt.work import Kind, Run, Step, TaskError

@attrs.frozen
class Film:
    path: str
    fails: bool = False
    crf: int = attrs.field(default=23, validator=attrs.validators.in_([18, 23]))

kind = Kind("film", Film, title="Cut a film", steps=[Step("cut", 1, "Cut it")], max_attempts=1,
            label="{path}")

@kind.handler
async def cut(params, run):
    async with run.step("cut"):
        await run.update(0.5, f"Cut {12} of {25} frames")
    if params.fails:
        raise TaskError(f"{params.path} is no film")
    return {"summary": params.path}
"""
TEXTS = {
    "Cut a film": ("剪辑影片", "Film schneiden"),
    "Cut it": ("剪辑", "Schneiden"),
    "Cut {done} of {all} frames": (
        "已剪辑 {done}/{all} 帧",
        "{done} von {all} Bildern geschnitten",
    ),
    "{path} is no film": ("{path} 不是影片", "{path} ist kein Film"),
}


@pytest.fixture
def own(settings: Settings, redis: Redis, database: Any, tmp_path: Path) -> Settings:
    """Settings of a server with an author's kind, and their texts in Chinese and German."""
    module, folder = tmp_path / f"films_{tmp_path.name.replace('-', '_')}.py", tmp_path / "texts"
    module.write_text(OWN, encoding="utf-8")
    folder.mkdir()
    for number, name in enumerate(("zh-CN.po", "de.po")):
        entries = [f'msgid "{one}"\nmsgstr "{said[number]}"\n' for one, said in TEXTS.items()]
        (folder / name).write_text("\n".join(entries), encoding="utf-8")
    return settings.changed(kinds=[str(module)], locales=str(folder), worker_concurrency=2)


async def ended(client: Client, task_id: str, **headers: str) -> Answer:
    """Return a task when it has ended, as it is read in a language."""

    async def look() -> Answer | None:
        answer = await client.get(f"/api/tasks/{task_id}", **headers)
        return answer if answer.body["ended_at"] else None

    return await until(look)


async def submitted(client: Client, **more: Any) -> str:
    answer = await client.post("/api/tasks", {"kind": "film", "params": {"path": "a.mkv"}} | more)
    assert answer.status == 202, answer.body
    task_id: str = answer.body["task_id"]
    return task_id


def texts_of(problem: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a problem document shows to a person."""
    yield problem["title"]
    yield problem["detail"]
    yield from problem.get("errors", ())


# Garbage of each sort, as bodies of all operations that have one.
BODIES = (b"[", b"[]", b"{}", b'{"nope": 1, "kind": "nope", "params": {"a": 1}}', b'{"kind": 5}')
# Values of which each member of a body is given one after the other.
VALUES = (None, 5, -1, "", "\x00", "x" * 3000, [], ["\x00"], {"a": 1})


def bodies_of(operation: Operation) -> Iterator[bytes | None]:
    """Yield bodies that are wrong; None for an operation without one."""
    if "requestBody" not in operation.content:
        yield None
        return
    yield from BODIES
    schema = operation.content["requestBody"]["content"].get("application/json", {}).get("schema")
    for members in members_of(schema or {}):
        yield from (orjson.dumps(dict.fromkeys(members, value)) for value in VALUES)


def members_of(schema: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield the names of the members that a body may have, of each form."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from members_of(load_once("openapi")["components"]["schemas"][name])
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from members_of(one)
    if "properties" in schema:
        yield list(schema["properties"])


@pytest.mark.gen_test(timeout=180)
async def test_every_refusal_is_in_the_language_of_the_request(
    own: Settings, make_token: Token
) -> None:
    """Each operation: without a token, without a scope, with garbage, about nothing."""
    everything = f"{ADMIN} {PUBLISH} {WORK}"
    seen: dict[str, str] = {}
    async with serving(own, make_token("alice")) as alice:
        admin, nobody = alice.as_user(make_token("root", scope=everything)), alice.as_user("")
        for operation in operations():
            if not operation.path.startswith("/api/"):
                continue
            # A stream of a user is open for long; the others refuse it too.
            is_stream = operation.path.endswith("/stream")
            path = re.sub(r"\{\w+\}", "nope", operation.path)
            queries = ["", *(f"?{name}=%00" for name in operation.parameters if name.islower())]
            method = operation.method.upper()
            for client in (nobody,) if is_stream else (nobody, alice, admin):
                for query in queries if method == "GET" else [""]:
                    for body in bodies_of(operation):
                        answer = await client.send(method, path + query, body, IN_CHINESE)
                        if answer.status < 400 or not isinstance(answer.body, dict):
                            continue
                        assert answer.headers["Content-Language"] == "zh-CN", operation.name
                        assert "Accept-Language" in answer.headers["Vary"]
                        for text in texts_of(answer.body):
                            seen[text] = operation.name
    english = {text: name for text, name in seen.items() if not CHINESE.search(text)}
    assert not english
    assert len(seen) > 100


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("", {}, "en"),
        ("", {"Accept-Language": "en-GB, zh;q=0.5"}, "en"),
        ("", {"Accept-Language": "zh-Hans"}, "zh-CN"),
        ("", {"Accept-Language": "fr, zh;q=0.5, en;q=0.4"}, "zh-CN"),
        ("", {"Accept-Language": "zh;q=0"}, "en"),
        ("", {"Accept-Language": "; nonsense, \u00e9"}, "en"),
        ("?locale=zh-CN", {"Accept-Language": "en"}, "zh-CN"),
        ("?locale=en", {"Accept-Language": "zh"}, "en"),
        ("?locale=tlh", {"Accept-Language": "zh"}, "zh-CN"),
    ],
)
async def test_argument_wins_over_the_header(
    settings: Settings,
    redis: Redis,
    database: Any,
    make_token: Token,
    query: str,
    headers: dict[str, str],
    language: str,
) -> None:
    async with serving(settings, make_token("alice")) as alice:
        answer = await alice.get(f"/api/tasks/nope{query}", **headers)
        assert answer.headers["Content-Language"] == language
        told = {"en": "there is no task nope", "zh-CN": "没有任务 nope"}
        assert answer.body["detail"] == told[language]
        assert answer.body["title"] == {"en": "Not Found", "zh-CN": "未找到"}[language]


@pytest.mark.gen_test
async def test_setting_is_the_language_of_who_says_none(
    settings: Settings, redis: Redis, database: Any, make_token: Token
) -> None:
    changed = settings.changed(default_locale="zh")
    async with serving(changed, make_token("alice")) as alice:
        assert CHINESE.search((await alice.get("/api/tasks/nope")).body["detail"])
        english = await alice.get("/api/tasks/nope", **{"Accept-Language": "en"})
        assert english.body["detail"] == "there is no task nope"


@pytest.mark.gen_test
async def test_faults_of_parameters_are_told_in_the_language(
    own: Settings, make_token: Token
) -> None:
    async with serving(own, make_token("alice")) as alice:
        params = {"crf": "x", "speed": 1}
        body = {"kind": "film", "params": params, "priority": "none", "locale": "???"}
        english = await alice.post("/api/tasks", body)
        chinese = await alice.send("POST", "/api/tasks", body, IN_CHINESE)
        assert english.body["errors"] == [
            "priority must be one of highest, high, normal, low, lowest",
            "locale must be a language tag such as en or de-AT",
            "params has unknown fields: speed",
            "params.path is required",
            "params.crf must be an integer",
        ]
        assert chinese.body["errors"] == [
            "priority 必须是以下之一：highest、high、normal、low、lowest",
            "locale 必须是语言标签，例如 en 或 zh-CN",
            "params 有未知字段：speed",
            "params.path 为必填项",
            "params.crf 必须是整数",
        ]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"symbol": ""}, "params.symbol 必须有 1 到 64 个字符"),
        ({"symbol": "a\n"}, "params.symbol 不能包含控制字符"),
        ({"symbol": "A", "research_depth": 9}, "params.research_depth 必须在 1 到 5 之间"),
        ({"symbol": "A", "llm_provider": "x" * 65}, "params.llm_provider 最多 64 个字符"),
        ({"symbol": "A", "analysts": []}, "params.analysts 至少要指定一名分析师，且每名只出现一次"),
    ],
)
async def test_faults_that_a_validator_of_ours_finds_are_told_in_the_language(
    settings: Settings,
    redis: Redis,
    database: Any,
    make_token: Token,
    params: dict[str, Any],
    told: str,
) -> None:
    """Of the shipped kind, in a task, in a batch, and in a schedule."""
    async with serving(settings, make_token("alice")) as alice:
        whole = {"kind": "analysis", "params": params}
        task = await alice.send("POST", "/api/tasks", whole, IN_CHINESE)
        assert task.body["errors"] == [told]
        items = {"kind": "analysis", "items": [{"params": params}]}
        batch = await alice.send("POST", "/api/batches", items, IN_CHINESE)
        assert batch.body["errors"] == [f"items[0].{told}"]
        daily = {**whole, "name": "daily", "cron": "0 8 * * *"}
        schedule = await alice.send("POST", "/api/schedules", daily, IN_CHINESE)
        assert [one.endswith(told) for one in schedule.body["errors"]] == [True]


@pytest.mark.gen_test
async def test_author_adds_his_texts_and_languages(own: Settings, make_token: Token) -> None:
    """Titles, steps, what a run reports and why it failed: each reader has them in their own."""
    async with serving(own, make_token("alice")) as alice:
        task_id = await submitted(alice, params={"path": "a.mkv", "fails": True})
        english = (await ended(alice, task_id)).body
        assert english["steps"][0]["description"] == "Cut it"
        assert english["error"] == "a.mkv is no film"
        for language, place in (("zh-CN", 0), ("de-AT", 1)):
            answer = await ended(alice, task_id, **{"Accept-Language": language})
            assert answer.headers["Content-Language"] == language[:2] + language[2:] * (place == 0)
            said = TEXTS["{path} is no film"][place].format(path="a.mkv")
            assert answer.body["error"] == answer.body["message"] == said
            assert answer.body["attempts"][0]["error"] == said
            assert answer.body["steps"][0]["description"] == TEXTS["Cut it"][place]
            assert answer.body["steps"][0]["name"] == "cut"
            listed = await alice.get(f"/api/tasks?locale={language}")
            assert listed.body["items"][0]["error"] == said
            kinds = (await alice.get(f"/api/kinds?locale={language}")).body["items"]
            titles = {one["kind"]: one["title"] for one in kinds}
            assert titles["film"] == TEXTS["Cut a film"][place]
        # A text without a German form is English, and so is the server itself.
        german = await alice.get("/api/tasks/nope?locale=de")
        assert german.body["detail"] == "there is no task nope"


@pytest.mark.gen_test
async def test_choices_are_named_in_the_language_and_their_values_stay(
    own: Settings, make_token: Token
) -> None:
    named = {
        "en": ["Market", "Fundamentals", "News", "Social media"],
        "zh-CN": ["市场", "基本面", "新闻", "社交媒体"],
    }
    async with serving(own, make_token("alice")) as alice:
        for language, names in named.items():
            kinds = (await alice.get(f"/api/kinds?locale={language}")).body["items"]
            [schema] = [one["params_schema"] for one in kinds if one["kind"] == "analysis"]
            choices = schema["properties"]["analysts"]["items"]
            assert choices["enum"] == ["market", "fundamentals", "news", "social"]
            assert choices["enumNames"] == names


@pytest.mark.gen_test
async def test_live_frames_are_in_the_language_of_the_handshake(
    own: Settings, make_token: Token
) -> None:
    """Two who follow one task each read their own; the others' frames are as ever."""
    async with serving(own, make_token("alice")) as alice:
        sockets = [await alice.socket(f"/api/ws{query}") for query in ("", "?locale=zh-CN")]
        stream = await alice.stream("/api/stream?topics=tasks", **IN_CHINESE)
        await event_of(stream, "connected")
        task_id = await submitted(alice, delay=0.3, params={"path": "b.mkv", "fails": True})
        subscribe = {"type": "subscribe", "data": {"topic": f"task:{task_id}"}}
        told: list[list[dict[str, Any]]] = []
        for socket in sockets:
            await socket.write_message(json.dumps(subscribe))
        for socket in sockets:
            frames: list[dict[str, Any]] = []
            while not frames or frames[-1]["type"] != "finished":
                frames.append(await frame(socket))
            told.append(frames)
        english, chinese = told
        assert english[-1]["data"]["error"] == "b.mkv is no film"
        assert chinese[-1]["data"]["error"] == "b.mkv 不是影片"
        assert [one["type"] for one in english] == [one["type"] for one in chinese]
        steps = [one["data"]["steps"][0] for one in chinese if one["type"] == "progress"]
        assert {one["description"] for one in steps} == {"剪辑"}
        ids = [[one.get("id") for one in frames if one["type"] == "finished"] for frames in told]
        assert ids[0] == ids[1]
        while True:
            changed = await event_of(stream, "changed")
            [item] = changed["data"]["items"]
            if item["status"] == "failed":
                break
        assert item["error"] == "b.mkv 不是影片"
        await stream.close()


@pytest.mark.gen_test
async def test_errors_of_sockets_and_streams_are_in_the_language(
    own: Settings, make_token: Token
) -> None:
    async with serving(own, make_token("alice")) as alice:
        socket = await alice.socket("/api/ws?locale=zh")
        await frame_of(socket, "connected")
        for text in ("nonsense", '{"type": 5}', '{"type": "nope"}', '{"type": "subscribe"}'):
            await socket.write_message(text)
            message = (await frame_of(socket, "error"))["data"]["message"]
            assert CHINESE.search(message), message
        request = {"type": "subscribe", "data": {"topic": "task:nope"}}
        await socket.write_message(json.dumps(request))
        assert (await frame_of(socket, "error"))["data"]["message"] == "没有任务 nope"
        refused = await alice.as_user("").socket("/api/ws/notifications?locale=zh-CN")
        assert (await frame(refused))["data"]["message"] == "没有凭据"
        expiring = alice.as_user(make_token("alice", ttl=1.2))
        stream = await expiring.stream("/api/notifications/stream?locale=zh-CN")
        assert (await event_of(stream, "problem"))["message"] == "令牌已过期"
        await stream.close()


@pytest.mark.gen_test
async def test_task_says_its_language_where_its_reader_does_not(
    own: Settings, make_token: Token
) -> None:
    """Its snapshot, its frames and its notification; who says another language reads that."""
    async with serving(own, make_token("alice")) as alice:
        params = {"path": "c.mkv", "fails": True}
        task_id = await submitted(alice, params=params, locale="zh-CN", delay=0.2)
        english = await alice.socket(f"/api/ws/tasks/{task_id}?locale=en")
        silent = await alice.socket(f"/api/ws/tasks/{task_id}")
        connected = (await frame(silent))["data"]["snapshot"]
        assert connected["locale"] == "zh-CN"
        assert connected["steps"][0]["description"] == "剪辑"
        assert (await frame_of(silent, "progress"))["data"]["steps"][0]["description"] == "剪辑"
        assert (await frame_of(silent, "finished"))["data"]["error"] == "c.mkv 不是影片"
        assert (await frame_of(english, "finished"))["data"]["error"] == "c.mkv is no film"
        assert (await ended(alice, task_id)).body["error"] == "c.mkv 不是影片"
        asked = await ended(alice, task_id, **{"Accept-Language": "en"})
        assert (asked.body["error"], asked.body["locale"]) == ("c.mkv is no film", "zh-CN")

        async def told() -> dict[str, Any] | None:
            items = (await alice.get("/api/notifications")).body["items"]
            return items[0] if items else None

        notification = await until(told)
        assert (notification["title"], notification["content"]) == ("c.mkv：失败", "c.mkv 不是影片")


@pytest.mark.gen_test
async def test_user_has_chosen_the_language_of_notifications(
    own: Settings, make_token: Token
) -> None:
    """It wins over that of the task; that of a batch is the batch's."""
    async with serving(own, make_token("alice")) as alice:
        await alice.send("PUT", "/api/notifications/preferences", {"locale": "de"})
        await submitted(alice, params={"path": "d.mkv", "fails": True}, locale="zh-CN")
        bob = alice.as_user(make_token("bob"))
        batch = {"kind": "film", "items": [{"params": {"path": "e.mkv"}}], "locale": "zh-CN"}
        assert (await bob.post("/api/batches", batch)).status == 202

        async def told(client: Client) -> dict[str, Any] | None:
            items = (await client.get("/api/notifications")).body["items"]
            return items[0] if items else None

        german = await until(lambda: told(alice))
        assert german["content"] == "d.mkv ist kein Film"
        assert german["title"] == "d.mkv: fehlgeschlagen"
        assert (await until(lambda: told(bob)))["title"] == "批次：已完成"


@pytest.mark.gen_test
async def test_types_of_notifications_are_listed_in_the_language(
    own: Settings, make_token: Token
) -> None:
    """That of the user's preferences, else that of the request."""
    async with serving(own, make_token("alice")) as alice:
        path = "/api/notifications/types"
        titles = {
            (await alice.get(f"{path}{one}")).body["items"][0]["title"]
            for one in ("", "?locale=zh")
        }
        assert titles == {"Analyses", "分析"}
        await alice.send("PUT", "/api/notifications/preferences", {"locale": "de"})
        assert (await alice.get(f"{path}?locale=zh")).body["items"][0]["title"] == "Analysen"


@pytest.mark.gen_test
async def test_why_is_said_in_the_language(own: Settings, make_token: Token) -> None:
    async with serving(own, make_token("alice")) as alice:
        task_id = await submitted(alice, params={"path": "f.mkv", "fails": True})
        await ended(alice, task_id)
        why = f"/api/tasks/{task_id}/why"

        async def is_told() -> bool:
            return [one["code"] for one in (await alice.get(why)).body["chain"]][-1] == "notified"

        await until(is_told)
        english = (await alice.get(why)).body
        answer = await alice.get(why, **IN_CHINESE)
        assert answer.headers["Content-Language"] == "zh-CN"
        chinese = answer.body
        assert english["cause"]["text"] == "its handler ended it as failed: f.mkv is no film"
        assert chinese["cause"]["text"] == "处理函数以失败结束了任务：f.mkv 不是影片"
        assert [one["code"] for one in english["chain"]] == [
            one["code"] for one in chinese["chain"]
        ]
        assert all(CHINESE.search(one["text"]) for one in chinese["chain"])


@pytest.mark.gen_test
async def test_step_of_the_analysis_and_its_reasons_are_in_the_language(
    settings: Settings, redis: Redis, database: Any, make_token: Token
) -> None:
    """Those of shipped kinds are in the catalogue, also why a task waits."""
    async with serving(settings, make_token("alice")) as alice:
        task_id = await alice.submit(params={"research_depth": 3})
        task = (await alice.get(f"/api/tasks/{task_id}", **IN_CHINESE)).body
        assert all(CHINESE.search(one["description"]) for one in task["steps"])
        assert "辩论，第 1 轮（共 2 轮）" in [one["description"] for one in task["steps"]]
        assert CHINESE.search(task["waiting_for"]["message"])
        plain = (await alice.get(f"/api/tasks/{task_id}")).body
        assert "Debate, round 1 of 2" in [one["description"] for one in plain["steps"]]


@pytest.mark.gen_test
async def test_bad_catalogue_is_a_clear_error(settings: Settings, tmp_path: Path) -> None:
    """At start, with the file and the message."""
    (tmp_path / "de.po").write_text('msgid "{a} of {b}"\nmsgstr "{a}"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"locales: .*de\.po: .*other places"):
        async with serving(settings.changed(locales=str(tmp_path)), ""):
            pass
    await asyncio.sleep(0)
