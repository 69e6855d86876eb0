"""An agent that answers questions with a model and a tool, as its developer wrote it."""

import json
from typing import Any

import attrs
from tornado.httpclient import AsyncHTTPClient

from tornado_rt.work import Kind, Retry, Run, TaskError

OVERLOADED = 529
WEATHER = {"北京": "晴，21 度"}


@attrs.frozen
class Question:
    """The question, and the address of the model."""

    text: str
    model: str


agent = Kind("agent.answer", Question, label="{text}", timeout=600, max_attempts=4)


@agent.handler
async def answer(params: Question, run: Run) -> dict[str, Any]:
    """Talk to the model until it needs no tool any more; what was said is never asked again."""
    talk = run.state.setdefault("talk", [{"role": "user", "content": params.text}])
    run.state.setdefault("tokens", 0)
    while True:
        run.update("正在思考…")
        said = await ask(params.model, talk)
        run.state["tokens"] += said["tokens"]
        talk.append({"role": "assistant", "content": said["content"]})
        if "place" not in said:
            return {"answer": said["content"], "tokens": run.state["tokens"]}
        async with run.step("weather", f"查询天气：{said['place']}"):
            found = WEATHER.get(said["place"], "不知道")
            talk.append({"role": "tool", "content": found})
            run.update(1.0, found)


async def ask(model: str, talk: list[dict[str, str]]) -> dict[str, Any]:
    """Return what the model says to a talk."""
    client = AsyncHTTPClient()
    body = json.dumps({"messages": talk})
    response = await client.fetch(model, method="POST", body=body, raise_error=False)
    if response.code == OVERLOADED:
        raise Retry("模型过载", delay=float(response.headers["Retry-After"]))
    if response.code != 200:
        raise TaskError(f"the model answered {response.code}")
    said: dict[str, Any] = json.loads(response.body)
    return said
