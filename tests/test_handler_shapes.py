"""The shapes of a handler, and the deeds of a module while it is loaded."""

import importlib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from redis.asyncio import Redis

from services.analysis import analysis_kind
from services.queue import Job, QueueService, TaskState
from services.worker import HandlerError, Rules, legacy_target, load_targets
from services.worker.legacy import Handler, handler_of
from services.worker.loading import import_function
from settings import Settings
from tests.working import ended, enqueue, outcomes_beside_another, working
from tornado_rt.work import Kind

GOOD = """
import functools, types

async def coroutine(task, progress):
    return {"ran": True}

def plain(task, progress, more=None):
    return {"ran": True}

def wrapped(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper

def bare(function):
    return lambda *arguments: function(*arguments)

class Callable:
    def __call__(self, task, progress):
        return {"ran": True}

class AsyncCallable:
    async def __call__(self, task, progress):
        return {"ran": True}

class Holder:
    @staticmethod
    def static(task, progress):
        return {"ran": True}
    async def method(self, task, progress):
        return {"ran": True}

class Later:
    def __await__(self):
        yield from ()
        return {"ran": True}

partial = functools.partial(plain, more=1)
partial_coroutine = functools.partial(coroutine)
callable_object, async_callable = Callable(), AsyncCallable()
partial_object = functools.partial(async_callable)
static, method = Holder.static, Holder().method
static_object = Holder.__dict__["static"]
wrapped_coroutine, bare_coroutine = wrapped(coroutine), bare(coroutine)

@types.coroutine
def generator_coroutine(task, progress):
    yield
    return {"ran": True}

def returns_coroutine(task, progress):
    return coroutine(task, progress)

def returns_awaitable(task, progress):
    return Later()
"""
NAMES = [
    "partial",
    "partial_coroutine",
    "callable_object",
    "async_callable",
    "partial_object",
    "static",
    "method",
    "static_object",
    "wrapped_coroutine",
    "bare_coroutine",
    "generator_coroutine",
    "returns_coroutine",
    "returns_awaitable",
]
BAD = [
    ("def f(task, progress):\n    yield {}", "a generator"),
    ("async def f(task, progress):\n    yield {}", "a generator"),
    ("class C:\n    def __call__(self, t, p):\n        yield\nf = C()", "a generator"),
    ("f = 7", "not a function"),
    ("class f: ...", "a class"),
    ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ("raise SystemExit(2)", "SystemExit: 2"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("f = print\ndef configure(settings):\n    raise SystemExit('off')", "SystemExit: off"),
    ("f = print\nconfigure = 3", "configure() of"),
    ("", "has no attribute 'f'"),
]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A factory of modules; returns a name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        name = f"shapes_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


@pytest.mark.gen_test
async def test_whatever_can_be_called_is_a_handler(
    redis: Redis, write: Callable[[str], str]
) -> None:
    """And what it returns is awaited where it can be."""
    queue = QueueService(redis, user_limit=0, global_limit=0)
    name = write(GOOD)
    handlers: dict[str, Handler] = {
        one: handler_of(import_function(f"{name}:{one}", Settings()), Rules()) for one in NAMES
    }
    handlers["GOOD"] = handlers["partial"]

    async def run(task, progress):  # type: ignore[no-untyped-def]
        return await handlers[task.symbol](task, progress)

    async with working(redis, queue, run):
        found = await outcomes_beside_another(queue, *NAMES)
    for symbol, task in found.items():
        assert (task.status, task.result) == (TaskState.COMPLETED, {"ran": True}), symbol


@attrs.frozen
class Nothing:
    """Parameters of a kind that has none."""


@pytest.mark.gen_test
async def test_whatever_can_be_called_is_the_handler_of_a_kind(
    redis: Redis, write: Callable[[str], str]
) -> None:
    """All of them in one worker."""
    queue = QueueService(redis, user_limit=0, global_limit=0)
    module = importlib.import_module(write(GOOD))
    kinds = {name: Kind(name, Nothing) for name in NAMES}
    for name, kind in kinds.items():
        kind.handler(getattr(module, name))
    async with working(redis, queue, load_targets(kinds, Settings())):
        ids = {name: await enqueue(queue, kind=name, job=Job(label=name)) for name in NAMES}
        for name, task_id in ids.items():
            task = await ended(queue, task_id)
            assert (task.status, task.result) == (TaskState.COMPLETED, {"ran": True}), name


def test_kind_without_a_handler_is_refused_and_an_analysis_without_one_left_out() -> None:
    settings = Settings()
    analysis = analysis_kind("", settings)
    assert load_targets({"analysis": analysis}, settings) == {}
    with pytest.raises(HandlerError, match="kind 'idle' has no handler"):
        load_targets({"idle": Kind("idle", Nothing)}, settings)


@pytest.mark.parametrize(("source", "why"), BAD)
def test_what_is_no_handler_is_refused_in_one_line(
    write: Callable[[str], str], source: str, why: str
) -> None:
    name = write(source)
    with pytest.raises(HandlerError) as refused:
        legacy_target(f"{name}:f", Settings())
    told = str(refused.value)
    assert told.startswith("worker_handler: ")
    assert why in told
    assert "\n" not in told


@pytest.mark.parametrize("path", ["json:decoder.JSONDecoder", ".json:x", "json", ":x", "a..b:c"])
def test_name_of_none_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(HandlerError, match=r"^worker_handler: cannot load .+$"):
        legacy_target(path, Settings())
