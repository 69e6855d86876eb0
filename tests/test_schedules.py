"""Schedules: what users and code make of them, and that each of their times makes one task."""

import asyncio
import base64
import itertools
import math
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import attrs
import msgpack
import pytest
from redis.asyncio import Redis

from services.estimates import Estimates
from services.kinds import KindError, KindRegistry, ParamsFault
from services.progress import PlanBook
from services.queue import Idempotency, QueueService, Task, TaskState
from services.schedules import (
    Make,
    Overlap,
    ScheduleConflict,
    ScheduleNotFound,
    ScheduleRefused,
    ScheduleRunner,
    ScheduleService,
    schedules_of,
)
from services.schedules.firing import fire_due
from services.schedules.models import StoredSchedule, schedule_id
from services.schedules.store import Registering, ScheduleChanged, ScheduleStore, Write
from services.schedules.times import jitter_of
from services.submissions import TaskBounds, TaskFields
from services.tasks import TaskService
from settings import Settings
from tests.api import Client, serving
from tests.faults.system import Child, RedisServer
from tests.queueing import claim, end, enqueue, read
from tests.waiting import until
from tornado_rt.protocol import Message
from tornado_rt.work import Kind, Run, Schedule, Step

pytestmark = pytest.mark.long

MakeQueue = Callable[..., QueueService]
Token = Callable[..., str]
DUE, NAMES, OFF = (
    f"{{rtq}}:{name}" for name in ("schedule_due", "schedule_names", "schedules_off")
)
NIGHTLY = {"name": "nightly", "kind": "report", "cron": "0 3 * * *", "params": {"name": "sales"}}
MINUTE = {"name": "minute", "kind": "report", "every": 60, "params": {"name": "x"}}
STATES = ("schedules", "schedule_due", "schedule_names", "schedule_state", "schedules_off")


@attrs.frozen
class Report:
    """The report."""

    name: str
    pages: int = 10


def report_kind(*schedules: Schedule, name: str = "report", version: int = 0) -> Kind:
    """Return a kind whose code has these schedules."""
    kind = Kind(
        name,
        Report,
        label="Report {name}",
        steps=[Step("read"), Step("write")],
        schedules=schedules,
        version=version,
    )

    @kind.handler
    async def run(params: Report, run: Run) -> None: ...

    return kind


@attrs.frozen
class Site:
    """Schedules over one queue, and the time by the clock of its Redis."""

    redis: Redis
    queue: QueueService
    make: Make
    service: ScheduleService
    store: ScheduleStore

    def runner(self, *kinds: Kind) -> ScheduleRunner:
        code = schedules_of({kind.name: kind for kind in kinds})
        return ScheduleRunner(self.queue, self.make, code)

    async def stored(self, name: str, user: str = "alice") -> StoredSchedule:
        [found] = (await self.store.read([f"{user}\n{name}"])).items
        return found

    async def make_due(self, name: str, ago: float = 0.0, user: str = "alice") -> float:
        """Have a schedule be due since these seconds; return the time that it is due at."""
        due = math.floor(1000 * (await self.store.now() - ago)) / 1000
        await self.redis.zadd(DUE, {f"{user}\n{name}": due}, xx=True)
        return due

    async def fire(self, name: str, ago: float = 0.0) -> list[Task]:
        """Fire a schedule that has been due for this long; return its tasks, the newest first."""
        before = await self.tasks()
        await self.make_due(name, ago)
        await self.runner().fire_due()
        return (await self.tasks())[: -len(before) or None]

    async def tasks(self, user: str = "alice") -> list[Task]:
        """Return the tasks of a user, the newest first."""
        return list((await self.queue.list_tasks(user, limit=1000)).items)

    async def faults(self) -> list[str]:
        """Return where the structures of the schedules do not say the same."""
        prefix = self.queue.prefix
        kept = set(await self.redis.hkeys(prefix + "schedules"))
        names = set(await self.redis.zrange(prefix + "schedule_names", 0, -1))
        due = set(await self.redis.zrange(prefix + "schedule_due", 0, -1))
        states = set(await self.redis.hkeys(prefix + "schedule_state"))
        off = set(await self.redis.smembers(prefix + "schedules_off"))
        told = {"names": names ^ kept, "strange": (due | states | off) - kept, "off": due & off}
        return [f"{fault}: {which}" for fault, which in told.items() if which] + (
            await self.queue.check_invariants()
        )


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(redis: Redis, make_queue: MakeQueue) -> MakeSite:
    """A factory of schedules on a queue: `make_site(most_per_user=3, max_waiting_per_user=1)`."""

    def make(*kinds: Kind, most_per_user: int = 100, **changes: Any) -> Site:
        queue = make_queue(**changes)
        named = {kind.name: kind for kind in kinds or (report_kind(),)}
        return site_of(redis, queue, named, most_per_user)

    return make


def site_of(
    redis: Redis, queue: QueueService, kinds: Mapping[str, Kind], most_per_user: int = 100
) -> Site:
    bounds, registry = TaskBounds(), KindRegistry(kinds)
    make = TaskService(queue, registry, PlanBook(queue.read_plans), bounds, Estimates(queue)).make
    service = ScheduleService(queue, make, bounds, most_per_user=most_per_user)
    return Site(redis, queue, make, service, ScheduleStore(queue))


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Schedules of the kind `report`."""
    return make_site()


@asynccontextmanager
async def running(runner: ScheduleRunner) -> AsyncIterator[None]:
    """Run a runner until the block ends."""
    job = asyncio.create_task(runner.run(), name="schedules")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.wait([job])


@pytest.mark.gen_test
async def test_schedule_says_all_that_is_known_of_it(site: Site) -> None:
    """Its parameters as the kind keeps them, and when it fires next."""
    asked = NIGHTLY | {"timezone": "Europe/Berlin", "tags": ["night", "night"], "jitter": 60}
    made = await site.service.create("alice", asked)
    next_at = made.pop("next_at")
    assert made == {
        "name": "nightly",
        "user_id": "alice",
        "kind": "report",
        "label": None,
        "params": {"name": "sales", "pages": 10},
        "priority": "normal",
        "key": "",
        "tags": ["night"],
        "timeout": 0.0,
        "max_attempts": None,
        "budget_seconds": 0.0,
        "locale": None,
        "callback_url": None,
        "notify": True,
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "jitter": 60.0,
        "overlap": "skip",
        "missed": "last",
        "enabled": True,
        "source": "api",
        "last_at": None,
        "last_task_id": None,
        "fired": 0,
        "skipped": 0,
        "skipped_because": None,
        "usual_seconds": None,
        "usual_low": None,
        "usual_high": None,
        "next_ends_at": None,
    }
    assert next_at[11:] in ("01:00:00.000Z", "02:00:00.000Z")
    assert made | {"next_at": next_at} == await site.service.get("alice", "nightly")
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_schedule_says_how_long_its_tasks_take(site: Site, redis: Redis) -> None:
    """Once some of their kind have ended; the next one ends this long after its time."""
    await site.service.create("alice", MINUTE)
    await redis.hset("{rtq}:pace", "report", 90)
    shown = await site.service.get("alice", "minute")
    assert shown["usual_seconds"] == pytest.approx(90, rel=0.2)
    assert shown["usual_low"] < shown["usual_seconds"] < shown["usual_high"]
    starts, ends = (datetime.fromisoformat(shown[name]) for name in ("next_at", "next_ends_at"))
    assert (ends - starts).total_seconds() == pytest.approx(shown["usual_seconds"], abs=0.1)
    [listed] = (await site.service.find("alice", "", 10))["items"]
    assert listed == shown
    # It is a body, too.
    again, is_new = await site.service.put("alice", "minute", shown)
    assert (again, is_new) == (shown, False)
    off = await site.service.enable("alice", "minute", False)
    assert (off["next_at"], off["next_ends_at"]) == (None, None)
    assert off["usual_seconds"] == shown["usual_seconds"]


@pytest.mark.gen_test
async def test_task_of_a_schedule_has_all_that_was_asked_of_it(site: Site) -> None:
    """Each field that a task can have: one that is new must be here too."""
    asked: dict[str, Any] = {
        "kind": "report",
        "label": "The night",
        "params": {"name": "sales", "pages": 3},
        "priority": "high",
        "key": "k",
        "tags": ["a", "b"],
        "timeout": 50.0,
        "max_attempts": 7,
        "budget_seconds": 90.0,
        "locale": "zh-CN",
        "callback_url": "https://example.com/done",
        "notify": False,
    }
    assert asked.keys() == {field.name for field in attrs.fields(TaskFields)}
    made = await site.service.create("alice", {"name": "nightly", "cron": "0 3 * * *", **asked})
    assert {name: made[name] for name in asked} == asked
    task = await site.service.run_now("alice", "nightly")
    told = attrs.asdict(task.job, recurse=False) | attrs.asdict(task, recurse=False)
    told |= {"tags": list(task.job.tags), "params": task.params}
    told |= {"label": task.label, "priority": task.priority.value}
    of_record = await site.redis.hget(f"{{rtq}}:task:{task.task_id}", "made")
    told["notify"] = msgpack.unpackb(of_record)[9] == "1"
    assert {name: told[name] for name in asked} == asked


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Nightly"}, ["name must be 1 to 64 of a-z, 0-9, dot, dash and underscore,"]),
        ({"name": 5}, ["name must be a string"]),
        ({"name": "report:nightly"}, ["name must be 1 to 64"]),
        ({"cron": "61 * * * *"}, ["cron '61 * * * *' has a bad minute"]),
        ({"cron": "0 0 30 2 *"}, ["cron '0 0 30 2 *' never comes"]),
        ({"cron": "0 0 */31 2 1L"}, ["cron '0 0 */31 2 1L' never comes"]),
        ({"cron": "* * * * * *"}, ["cron must have five fields"]),
        ({"cron": ""}, ["a schedule has either cron or every"]),
        ({"every": 60}, ["a schedule has either cron or every"]),
        ({"cron": "", "every": 0.5}, ["every must be from 1 to"]),
        ({"timezone": "Mars/Base"}, ["timezone: there is no time zone Mars/Base"]),
        ({"timezone": "localtime"}, ["timezone: localtime is not the same zone on every machine"]),
        ({"cron": "*/60 * * * *"}, ["cron '*/60 * * * *' has a step of 60 in its minute, which"]),
        ({"cron": "", "every": 60, "jitter": 60.5}, ["jitter must be at most every, 60 s"]),
        ({"jitter": -1}, ["jitter must be from 0 to 86400"]),
        ({"overlap": "never"}, ["overlap must be one of skip, queue, replace"]),
        ({"missed": "some"}, ["missed must be one of skip, last, all"]),
        ({"enabled": "yes"}, ["enabled must be true or false"]),
        ({"kind": "nothing"}, ["there is no kind nothing"]),
        ({"kind": 5}, ["kind must be a string"]),
        ({"params": {"name": 5, "x": 1}}, ["params has unknown fields: x", "params.name must be"]),
        ({"params": {}, "cron": "x"}, ["cron must have five", "params.name is required"]),
        ({"label": "x" * 201}, ["label must have 1 to 200 characters"]),
        ({"tags": [""], "key": "k" * 201}, ["tags[0] must have", "key must have at most 200"]),
        (
            {"delay": 5, "unique": {"key": "k"}},
            ["a schedule has no delay", "a schedule has no uni"],
        ),
        ({"callback_url": "ftp://x"}, ["callback_url"]),
        ({"surprise": 1}, ["unknown fields: surprise"]),
    ],
)
async def test_what_is_wrong_with_a_schedule_is_told_in_words(
    site: Site, change: dict[str, Any], told: list[str]
) -> None:
    """All of it at once, and nothing is kept."""
    with pytest.raises(ScheduleRefused) as refused:
        await site.service.create("alice", NIGHTLY | change)
    for words in told:
        assert any(fault.startswith(words) for fault in refused.value.faults), refused.value.faults
    assert len(refused.value.faults) == len(told)
    assert await site.redis.keys("*schedule*") == []


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [None, [], "x", 5, {}])
async def test_body_that_is_no_schedule_is_refused(site: Site, body: Any) -> None:
    with pytest.raises(ScheduleRefused):
        await site.service.create("alice", body)
    with pytest.raises(ScheduleRefused):
        await site.service.put("alice", "nightly", body)


@pytest.mark.gen_test
async def test_users_have_names_of_their_own(site: Site) -> None:
    """Another's schedule is not found; a name is taken for its owner alone."""
    await site.service.create("alice", NIGHTLY)
    for verb in (site.service.get, site.service.delete, site.service.run_now):
        with pytest.raises(ScheduleNotFound, match="there is no schedule nightly"):
            await verb("bob", "nightly")
    with pytest.raises(ScheduleNotFound):
        await site.service.put("bob", "nightly", {"enabled": False})
    await site.service.create("bob", NIGHTLY | {"params": {"name": "bob's"}})
    with pytest.raises(ScheduleConflict, match="there is a schedule nightly already"):
        await site.service.create("alice", NIGHTLY)
    assert (await site.service.get("alice", "nightly"))["params"]["name"] == "sales"
    await site.service.delete("alice", "nightly")
    assert (await site.service.get("bob", "nightly"))["params"]["name"] == "bob's"


@pytest.mark.gen_test
async def test_put_makes_or_replaces_and_keeps_the_time_when_it_is_the_same(site: Site) -> None:
    body = {name: value for name, value in MINUTE.items() if name != "name"}
    made, is_new = await site.service.put("alice", "minute", dict(body))
    assert is_new
    due = await site.make_due("minute", -7)
    changed = body | {"params": {"name": "y"}, "overlap": "queue"}
    replaced, is_new = await site.service.put("alice", "minute", changed)
    assert not is_new
    assert (replaced["params"]["name"], replaced["overlap"]) == ("y", "queue")
    assert (await site.stored("minute")).due == due
    slower, _ = await site.service.put("alice", "minute", changed | {"every": 3600})
    assert slower["next_at"] > made["next_at"]
    start = (await site.stored("minute")).definition
    assert start is not None
    assert (await site.stored("minute")).due == start.start + 3600
    with pytest.raises(ScheduleRefused, match="name must be that of the address, minute"):
        await site.service.put("alice", "minute", changed | {"name": "other"})
    assert await site.faults() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("body", [NIGHTLY, MINUTE | {"tags": ["t"], "jitter": 5}])
async def test_answer_is_a_body_that_changes_nothing(site: Site, body: dict[str, Any]) -> None:
    """Read-only fields are skipped, whatever they say; nothing else is."""
    await site.service.create("alice", body | {"enabled": False})
    await site.service.run_now("alice", body["name"])
    before = await site.stored(body["name"])
    shown = await site.service.get("alice", body["name"])
    moved = shown | {"user_id": "bob", "source": "code", "next_at": 5, "fired": -1, "skipped": []}
    for one in (shown, moved):
        assert await site.service.put("alice", body["name"], one) == (shown, False)
    assert await site.stored(body["name"]) == before
    for field in ("start", "token", "status", "Fired"):
        with pytest.raises(ScheduleRefused, match=f"unknown fields: {field}"):
            await site.service.put("alice", body["name"], shown | {field: 1})
    # To make another one is to say what it is.
    with pytest.raises(ScheduleRefused, match="unknown fields: user_id"):
        await site.service.create("alice", shown | {"name": "other"})


@pytest.mark.gen_test
async def test_schedule_that_is_off_does_not_fire(site: Site) -> None:
    """Switched on again it goes on from then; what it missed meanwhile it did not miss."""
    made = await site.service.create("alice", MINUTE | {"enabled": False})
    assert (made["enabled"], made["next_at"]) == (False, None)
    assert await site.fire("minute") == []
    on, _ = await site.service.put("alice", "minute", {"enabled": True})
    assert on["enabled"]
    assert on["next_at"] is not None
    due = await site.make_due("minute", -7)
    await site.service.enable("alice", "minute", True)
    assert (await site.stored("minute")).due == due
    off, _ = await site.service.put("alice", "minute", {"enabled": False})
    assert (off["enabled"], off["next_at"]) == (False, None)
    # A definition that does not say so is on.
    assert (await site.service.put("alice", "minute", dict(MINUTE)))[0]["enabled"]
    with pytest.raises(ScheduleRefused, match="enabled must be true or false"):
        await site.service.put("alice", "minute", {"enabled": 1})
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_user_has_no_more_schedules_than_the_bound(make_site: MakeSite) -> None:
    """Also when they are made at once; what replaces one needs no room."""
    site = make_site(most_per_user=3)
    made = await asyncio.gather(
        *(site.service.create("alice", MINUTE | {"name": f"n{n}"}) for n in range(8)),
        return_exceptions=True,
    )
    refused = [one for one in made if isinstance(one, ScheduleConflict)]
    assert len(refused) == 5
    assert str(refused[0]) == "a user may have at most 3 schedules"
    page = await site.service.find("alice", "", 100)
    names = [one["name"] for one in page["items"]]
    assert len(names) == 3
    await site.service.create("bob", MINUTE)
    await site.service.put("alice", names[0], NIGHTLY | {"name": names[0]})
    await site.service.delete("alice", names[0])
    await site.service.create("alice", NIGHTLY)
    # Neither counts with the other, whose name begins as theirs does.
    await site.service.create("alic", NIGHTLY)
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_schedules_are_listed_in_pages_by_name(site: Site) -> None:
    for user, name in itertools.product(("bob", "alice", "alice2"), ("c", "a", "b")):
        await site.service.create(user, MINUTE | {"name": name})
    first = await site.service.find("alice", "", 2)
    assert [one["name"] for one in first["items"]] == ["a", "b"]
    rest = await site.service.find("alice", first["next"], 2)
    assert ([one["name"] for one in rest["items"]], rest["next"]) == (["c"], None)
    seen, after = [], ""
    while True:
        page = await site.service.find(None, after, 4)
        seen += [(one["user_id"], one["name"]) for one in page["items"]]
        if (after := page["next"]) is None:
            break
    assert seen == sorted(itertools.product(("bob", "alice", "alice2"), "abc"))


NEIGHBOURS = ("a", "a\x01", "a\x0b", "a ", "ab", "b", "A", "\U0010ffff")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "after", ["\x01", "", "a", "a\n", "a\nm", "a\x01\nm", "A\n", "\n", "b\nz", "n", "\x00", "é"]
)
async def test_no_cursor_leaves_the_list_of_its_user(site: Site, after: str) -> None:
    """Users whose names sort around each other: a cursor of any text finds only what is theirs."""
    for user, name in itertools.product(NEIGHBOURS, ("m", "o")):
        await site.service.create(user, MINUTE | {"name": name})
    for user in NEIGHBOURS:
        found = (await site.service.find(user, after, 100))["items"]
        told = [(one["user_id"], one["name"]) for one in found]
        assert told == [(user, name) for name in ("m", "o") if name > after]


@pytest.mark.gen_test
async def test_schedule_under_the_name_of_another_user_is_not_listed(site: Site) -> None:
    """Nothing writes one; a list looks at whose it is all the same."""
    await site.service.create("alice", MINUTE)
    text = (await site.stored("minute")).text
    await site.redis.hset("{rtq}:schedules", "bob\nminute", text)
    await site.redis.zadd(NAMES, {"bob\nminute": 0})
    assert (await site.service.find("bob", "", 10))["items"] == []


@pytest.mark.gen_test
async def test_nothing_is_left_of_a_schedule_that_is_dropped(site: Site) -> None:
    """But for its task, which goes on."""
    await site.service.create("alice", MINUTE)
    [task] = await site.fire("minute")
    await site.service.put("alice", "minute", {"enabled": False})
    await site.service.delete("alice", "minute")
    assert await site.redis.keys("*schedule*") == []
    assert (await read(site.queue, task.task_id)).status is TaskState.QUEUED
    with pytest.raises(ScheduleNotFound):
        await site.service.delete("alice", "minute")


@pytest.mark.gen_test
async def test_due_schedule_makes_one_task_and_has_its_next_time(site: Site) -> None:
    """A task like any other, that names its schedule; it is the kind's own in label and plan."""
    body = MINUTE | {"tags": ["t"], "priority": "high", "key": "acme", "notify": False}
    await site.service.create("alice", body)
    due = await site.make_due("minute")
    runner = site.runner()
    assert await runner.fire_due() == 0
    assert 0 < await runner.fire_due() <= 30
    [task] = await site.tasks()
    assert task.task_id.startswith("minute-")
    assert task.task_id.endswith(f"-{int(due)}")
    told = (task.kind, task.label, task.params, task.status, task.priority, task.key)
    assert told == ("report", "Report x", {"name": "x", "pages": 10}, "queued", "high", "acme")
    assert (task.job.schedule, task.job.tags) == ("minute", ("t",))
    shown = await site.service.get("alice", "minute")
    assert (shown["fired"], shown["skipped"], shown["last_task_id"]) == (1, 0, task.task_id)
    stored = await site.stored("minute")
    assert stored.state.last_time == due
    assert stored.definition is not None
    assert stored.due is not None
    assert (stored.due - stored.definition.start) % 60 == 0
    assert 0 < stored.due - await site.store.now() <= 60
    await runner.fire_due()
    assert len(await site.tasks()) == 1
    assert await site.queue.read_plans([report_kind().plan_of(None).digest])  # type: ignore[union-attr]
    assert await site.faults() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("overlap", list(Overlap))
async def test_task_that_has_not_ended_is_waited_for_joined_or_replaced(
    site: Site, overlap: Overlap
) -> None:
    """Whether it waits or runs; one that has ended is in nobody's way."""
    await site.service.create("alice", MINUTE | {"overlap": overlap})
    [first] = await site.fire("minute", ago=3)
    for ago in (2, 1):
        made = await site.fire("minute", ago=ago)
        assert len(made) == (0 if overlap is Overlap.SKIP else 1)
        await claim(site.queue, 1, "report")
    shown = await site.service.get("alice", "minute")
    reason = "the last task has not ended"
    assert (shown["fired"], shown["skipped"], shown["skipped_because"]) == (
        (1, 2, reason) if overlap is Overlap.SKIP else (3, 0, None)
    )
    states = [task.status for task in await site.tasks()]
    assert (
        states
        == {
            Overlap.SKIP: ["processing"],
            Overlap.QUEUE: ["queued", "processing", "processing"],
            Overlap.REPLACE: ["processing", "cancelled", "cancelled"],
        }[overlap]
    )
    for task in await site.tasks():
        await site.queue.cancel_task(task.task_id)
    assert len(await site.fire("minute")) == 1
    assert (await site.service.get("alice", "minute"))["skipped_because"] is None
    assert first.task_id not in [task.task_id for task in (await site.tasks())[:1]]
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_task_that_ended_is_in_nobodys_way(site: Site) -> None:
    await site.service.create("alice", MINUTE)
    await site.fire("minute", ago=2)
    await end(site.queue, *await claim(site.queue, 1, "report"))
    assert len(await site.fire("minute", ago=1)) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("missed", "overlap", "every", "ago", "made"),
    [
        ("skip", "queue", 3600, 3590, 0),
        ("last", "queue", 3600, 3590, 1),
        ("last", "queue", 600, 5990, 1),
        ("all", "queue", 600, 5990, 10),
        ("all", "queue", 60, 86400, 100),
        # Tasks of one firing are not in each other's way.
        ("all", "skip", 600, 5990, 10),
        ("all", "skip", 10, 130, 14),
        # Each would replace the one before.
        ("all", "replace", 600, 5990, 1),
        ("last", "replace", 600, 5990, 1),
        # Within a minute the last one is on time, and no other.
        ("skip", "queue", 3600, 59, 1),
        ("skip", "queue", 1, 30, 1),
        ("skip", "queue", 10, 130, 1),
        ("skip", "skip", 10, 130, 1),
        ("last", "queue", 10, 130, 1),
        ("last", "skip", 10, 130, 1),
        ("last", "queue", 10, 3590, 1),
        ("all", "queue", 10, 59, 6),
        ("skip", "replace", 10, 59, 1),
        ("last", "skip", 60, 30, 1),
    ],
)
async def test_what_was_missed_is_made_up_for_as_asked(
    site: Site, missed: str, overlap: str, every: float, ago: float, made: int
) -> None:
    """Nothing, the last one, or all up to a bound; the others are skipped. It goes on from now."""
    body = MINUTE | {"missed": missed, "overlap": overlap, "every": every}
    due = await _due_since(site, body, ago)
    await site.runner().fire_due()
    times = [int(task.task_id.rpartition("-")[2]) for task in await site.tasks()]
    stored = await site.stored("minute")
    assert stored.due is not None
    last = int(stored.due - every)
    assert times == [last - every * number for number in range(made)]
    passed_over = (last - due) // every + 1 - made
    assert (stored.state.fired, stored.state.skipped) == (made, min(passed_over, 1000))
    shown = await site.service.get("alice", "minute")
    why = "it was missed while nothing ran" if passed_over else None
    assert shown["skipped_because"] == why
    # The next one is on time.
    for task in await site.tasks():
        await site.queue.cancel_task(task.task_id)
    if passed_over and await site.fire("minute"):
        assert (await site.service.get("alice", "minute"))["skipped_because"] is None
    assert await site.faults() == []


async def _due_since(site: Site, body: dict[str, Any], ago: float) -> int:
    """Make a schedule as if it were there for long; return the time that it is due since."""
    made = await site.service.create("alice", body)
    definition = (await site.stored(made["name"])).definition
    assert definition is not None
    due = int(await site.store.now() - ago)
    text = attrs.evolve(definition, start=float(due - definition.every)).text
    await site.redis.hset("{rtq}:schedules", f"alice\n{made['name']}", text)
    await site.redis.zadd(DUE, {f"alice\n{made['name']}": due})
    return due


@pytest.mark.gen_test
async def test_no_more_missed_times_are_counted_than_the_bound(site: Site) -> None:
    await _due_since(site, MINUTE | {"every": 1, "missed": "skip"}, 86400)
    await site.runner().fire_due()
    state = (await site.stored("minute")).state
    assert (state.fired, state.skipped) == (1, 1000)


@pytest.mark.gen_test
async def test_task_from_before_is_in_the_way_of_all_that_was_missed(site: Site) -> None:
    """Also of what is made up for; the reason is that of the last one."""
    await _due_since(site, MINUTE | {"every": 10, "missed": "all"}, 130)
    before = await site.service.run_now("alice", "minute")
    await site.runner().fire_due()
    assert [task.task_id for task in await site.tasks()] == [before.task_id]
    shown = await site.service.get("alice", "minute")
    assert (shown["fired"], shown["skipped"]) == (1, 14)
    assert shown["skipped_because"] == "the last task has not ended"


@pytest.mark.gen_test
async def test_times_that_are_made_up_for_stop_where_the_user_has_no_room(
    make_site: MakeSite,
) -> None:
    site = make_site(max_waiting_per_user=5)
    await _due_since(site, MINUTE | {"every": 10, "missed": "all"}, 130)
    await site.runner().fire_due()
    shown = await site.service.get("alice", "minute")
    assert (shown["fired"], shown["skipped"]) == (5, 9)
    assert shown["skipped_because"] == "as many tasks wait as a user may have"


@pytest.mark.gen_test
async def test_cron_that_was_missed_makes_its_last_time(site: Site) -> None:
    """The time of the task is that of the clock, not that of the firing."""
    await site.service.create("alice", NIGHTLY)
    now = await site.store.now()
    [task] = await site.fire("nightly", ago=3 * 86400)
    due = int(task.task_id.rpartition("-")[2])
    assert due % 86400 == 3 * 3600
    assert now - 86400 < due <= now


@pytest.mark.gen_test
async def test_jitter_puts_a_task_off(site: Site) -> None:
    """It is made at its time and waits; the times of the schedule itself do not move."""
    await site.service.create("alice", MINUTE | {"every": 3600, "jitter": 3600})
    put_off = 0.0
    # A time whose task is put off for longer than the test takes.
    while put_off < 60:
        due = await site.make_due("minute")
        put_off = jitter_of(schedule_id("alice", "minute"), due, 3600)
    await site.runner().fire_due()
    [task] = await site.tasks()
    task = await read(site.queue, task.task_id)
    assert task.status is TaskState.DELAYED
    assert task.run_at == pytest.approx(due + put_off, abs=0.001)
    assert (await site.stored("minute")).state.last_time == due
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_full_queue_makes_no_task_and_says_so(make_site: MakeSite) -> None:
    """Nor is the one cancelled that would be replaced by one for which there is no room."""
    site = make_site(max_waiting_per_user=2)
    await site.service.create("alice", MINUTE | {"overlap": "replace"})
    [first] = await site.fire("minute", ago=4)
    await claim(site.queue, 1, "report")
    for _ in range(2):
        await enqueue(site.queue, "alice")
    assert await site.fire("minute", ago=3) == []
    shown = await site.service.get("alice", "minute")
    assert shown["skipped_because"] == "as many tasks wait as a user may have"
    assert (await read(site.queue, first.task_id)).status is TaskState.PROCESSING
    # One that waits makes room for the one that replaces it.
    await end(site.queue, *await claim(site.queue, 1))
    [second] = await site.fire("minute", ago=2)
    [third] = await site.fire("minute", ago=1)
    assert (await read(site.queue, second.task_id)).status is TaskState.CANCELLED
    assert (await read(site.queue, third.task_id)).status is TaskState.QUEUED


@pytest.mark.gen_test
async def test_schedule_whose_kind_is_gone_says_so_and_stops_no_other(
    site: Site, make_site: MakeSite
) -> None:
    """It goes on by itself when the kind is there again, with its parameters."""
    await site.service.create("alice", MINUTE)
    await site.service.create("alice", MINUTE | {"name": "broken"})
    await site.redis.hset("{rtq}:schedules", "alice\nbroken", b"garbage")
    without = make_site(report_kind(name="other"))
    for name in ("minute", "broken"):
        await site.make_due(name)
    await without.runner().fire_due()
    shown = await site.service.get("alice", "minute")
    assert (shown["fired"], shown["skipped"]) == (0, 1)
    assert shown["skipped_because"].startswith("there is no kind report")
    assert len(await site.fire("minute")) == 1
    # An unreadable schedule is read again later, and can be dropped.
    stored = await site.stored("broken")
    assert stored.state.why == "its definition cannot be read"
    assert stored.due is not None
    assert 50 < stored.due - await site.store.now() <= 60
    assert [one["name"] for one in (await site.service.find("alice", "", 10))["items"]] == [
        "minute"
    ]
    with pytest.raises(ScheduleNotFound):
        await site.service.get("alice", "broken")
    await site.service.delete("alice", "broken")
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_zone_that_this_machine_does_not_have_is_left_to_others(site: Site) -> None:
    """It stays due soon, for a process that has it."""
    await site.service.create("alice", NIGHTLY)
    definition = (await site.stored("nightly")).definition
    assert definition is not None
    text = attrs.evolve(definition, timezone="Mars/Base").text
    await site.redis.hset("{rtq}:schedules", "alice\nnightly", text)
    assert await site.fire("nightly") == []
    shown = await site.service.get("alice", "nightly")
    assert shown["skipped_because"] == "timezone: there is no time zone Mars/Base"
    assert shown["next_at"] is not None
    await site.redis.hset("{rtq}:schedules", "alice\nnightly", definition.text)
    assert len(await site.fire("nightly")) == 1


@pytest.mark.gen_test
async def test_schedule_of_another_process_that_cannot_be_switched_on_says_why(site: Site) -> None:
    await site.service.create("alice", NIGHTLY | {"enabled": False})
    definition = (await site.stored("nightly")).definition
    assert definition is not None
    text = attrs.evolve(definition, timezone="Mars/Base").text
    await site.redis.hset("{rtq}:schedules", "alice\nnightly", text)
    with pytest.raises(ScheduleRefused, match="there is no time zone Mars/Base"):
        await site.service.put("alice", "nightly", {"enabled": True})
    assert not (await site.service.get("alice", "nightly"))["enabled"]


@pytest.mark.gen_test
async def test_schedule_has_parameters_as_deep_as_a_task(make_site: MakeSite) -> None:
    @attrs.frozen
    class Free:
        value: Any = None

    site, deep = make_site(Kind("free", Free)), 1
    for _ in range(31):
        deep = [deep]  # type: ignore[assignment]
    body = MINUTE | {"kind": "free", "params": {"value": deep}}
    assert (await site.service.create("alice", body))["params"] == {"value": deep}
    [task] = await site.fire("minute")
    assert task.params == {"value": deep}
    with pytest.raises(ScheduleRefused, match="params nests deeper than 32 levels"):
        await site.service.put("alice", "minute", body | {"params": {"value": [deep]}})


@pytest.mark.gen_test
async def test_put_leaves_the_body_as_it_is(site: Site) -> None:
    body = {name: value for name, value in MINUTE.items() if name != "name"}
    before = dict(body)
    await site.service.put("alice", "minute", body)
    assert body == before


@pytest.mark.gen_test
async def test_params_that_the_kind_does_not_take_any_more_are_told(
    site: Site, make_site: MakeSite
) -> None:
    @attrs.frozen
    class Other:
        title: str

    await site.service.create("alice", MINUTE)
    later = make_site(Kind("report", Other))
    await later.make_due("minute")
    await later.runner().fire_due()
    shown = await later.service.get("alice", "minute")
    assert "params.title is required" in shown["skipped_because"]
    with pytest.raises(ParamsFault, match="title is required"):
        await later.service.run_now("alice", "minute")


@pytest.mark.gen_test
async def test_broken_code_of_a_kind_stops_no_other_schedule(site: Site) -> None:
    async def make(request: Any) -> Any:
        if request.params["name"] == "bad":
            raise RuntimeError("the kind is broken")
        return await site.make(request)

    await site.service.create("alice", MINUTE | {"params": {"name": "bad"}, "name": "bad"})
    await site.service.create("alice", MINUTE)
    for name in ("bad", "minute"):
        await site.make_due(name)
    await ScheduleRunner(site.queue, make).fire_due()
    assert [task.job.schedule for task in await site.tasks()] == ["minute"]
    assert (await site.service.get("alice", "bad"))["skipped_because"] == "the kind is broken"
    assert (await site.stored("bad")).due is not None


@pytest.mark.gen_test
async def test_state_that_cannot_be_read_begins_anew(site: Site) -> None:
    await site.service.create("alice", MINUTE)
    for garbage in (b"", b"\xc1", b"\xa3abc", b"\x81\xa5fired\xa1x"):
        await site.redis.hset("{rtq}:schedule_state", "alice\nminute", garbage)
        assert (await site.service.get("alice", "minute"))["fired"] == 0
    await site.redis.hset("{rtq}:schedule_state", "alice\nminute", b"\x81\xa9last_task\xa1\xff")
    assert (await site.service.get("alice", "minute"))["last_task_id"] == "\ufffd"
    assert len(await site.fire("minute")) == 1
    await site.redis.zadd(DUE, {"alice\nunknown": 1})
    await site.runner().fire_due()
    assert await site.redis.zscore(DUE, "alice\nunknown") is None


@pytest.mark.gen_test
async def test_five_processes_that_fire_at_once_make_one_task_each_time(
    site: Site, make_queue: MakeQueue, stores: Any
) -> None:
    """Each with a connection of its own; whichever is first, the others change nothing."""
    names = [f"s{number}" for number in range(4)]
    for name in names:
        await site.service.create("alice", MINUTE | {"name": name, "overlap": "queue"})
    clients = [Redis.from_url(stores.redis_url) for _ in range(5)]
    try:
        others = [site_of(one, QueueService(one), {"report": report_kind()}) for one in clients]
        for round_ in range(1, 16):
            for name in names:
                await site.make_due(name, ago=30 - round_)
            await asyncio.gather(*(other.runner().fire_due() for other in others))
            assert len(await site.tasks()) == round_ * len(names)
    finally:
        for client in clients:
            await client.aclose()
    shown = await site.service.find("alice", "", 10)
    assert [(one["fired"], one["skipped"]) for one in shown["items"]] == [(15, 0)] * 4
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_repeated_and_late_firings_change_nothing(site: Site) -> None:
    """The same request again, and one of a process that read the schedule before it was changed."""
    await site.service.create("alice", MINUTE | {"overlap": "queue"})
    due = await site.make_due("minute")
    before = await site.stored("minute")
    firing = await fire_due(before, due, due, site.make)
    assert [(await site.store.fire(firing)).made for _ in range(3)] == [1, 0, 0]
    assert len(await site.tasks()) == 1
    due = await site.make_due("minute", ago=-1)
    stale = await fire_due(await site.stored("minute"), due, due, site.make)
    await site.service.put("alice", "minute", {**MINUTE, "params": {"name": "new"}})
    with pytest.raises(ScheduleChanged):
        await site.store.fire(stale)
    assert (await site.stored("minute")).due == due
    await site.service.enable("alice", "minute", False)
    off = attrs.evolve(stale, definition=(await site.stored("minute")).text)
    assert (await site.store.fire(off)).made == 0
    await site.service.delete("alice", "minute")
    with pytest.raises(ScheduleChanged):
        await site.store.fire(off)
    assert len(await site.tasks()) == 1
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_repeated_writes_change_nothing(make_site: MakeSite) -> None:
    """Redis-py sends a request again whose reply was lost."""
    site = make_site(most_per_user=1)
    await site.service.create("alice", MINUTE)
    stored = await site.stored("minute")
    made = Write(stored.id, b"", stored.text, stored.due)
    for _ in range(2):
        await site.store.write([made], most=1)
    other = Write(stored.id, b"", stored.text + b" ", 1.0)
    with pytest.raises(ScheduleChanged):
        await site.store.write([other])
    with pytest.raises(ScheduleChanged):
        await site.store.write([], registering=Registering("report", b"older", b"new"))
    gone = Write(stored.id, stored.text, b"")
    for _ in range(2):
        await site.store.write([gone])
    assert await site.redis.keys("*schedule*") == []


@pytest.mark.gen_test
async def test_schedule_is_run_now(site: Site) -> None:
    """Also one that is off; its times stay as they are."""
    await site.service.create("alice", MINUTE | {"enabled": False})
    task = await site.service.run_now("alice", "minute")
    assert (task.job.schedule, task.status, task.user_id) == ("minute", "queued", "alice")
    with pytest.raises(ScheduleConflict, match="minute is not run: the last task has not ended"):
        await site.service.run_now("alice", "minute")
    await site.queue.cancel_task(task.task_id)
    again = await site.service.run_now("alice", "minute")
    assert again.task_id != task.task_id
    shown = await site.service.get("alice", "minute")
    # A refused time was nobody's.
    assert (shown["fired"], shown["skipped"], shown["last_task_id"]) == (2, 0, again.task_id)
    assert (shown["enabled"], shown["next_at"]) == (False, None)
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_run_that_is_refused_leaves_what_is_told_of_the_schedule(make_site: MakeSite) -> None:
    """It is no time of the schedule: it counts as none, and the last reason stays."""
    site = make_site(max_waiting_per_user=1)
    await site.service.create("alice", MINUTE)
    await enqueue(site.queue, "alice")
    assert await site.fire("minute") == []
    before = await site.stored("minute")
    for _ in range(2):
        with pytest.raises(ScheduleConflict, match="as many tasks wait as a user may have"):
            await site.service.run_now("alice", "minute")
    assert (await site.stored("minute")).state == before.state
    assert before.state.skipped == 1


@pytest.mark.gen_test
async def test_request_to_run_that_is_repeated_makes_one_task(site: Site) -> None:
    await site.service.create("alice", MINUTE | {"overlap": "queue"})
    due = (await site.stored("minute")).due
    once = Idempotency("key", b"")
    tasks = [await site.service.run_now("alice", "minute", once) for _ in range(3)]
    other = await site.service.run_now("alice", "minute", Idempotency("other", b""))
    assert len({task.task_id for task in (*tasks, other)}) == 2
    assert len(await site.tasks()) == 2
    stored = await site.stored("minute")
    assert (stored.due, stored.state.fired) == (due, 2)
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_full_queue_runs_nothing_now(make_site: MakeSite) -> None:
    site = make_site(max_waiting_per_user=1)
    await site.service.create("alice", MINUTE)
    await enqueue(site.queue, "alice")
    with pytest.raises(ScheduleConflict, match="as many tasks wait as a user may have"):
        await site.service.run_now("alice", "minute")


@pytest.mark.gen_test
async def test_schedules_of_code_are_registered_once(site: Site) -> None:
    """By any number of processes at once; the same again changes nothing."""
    nightly = Schedule(name="nightly", cron="0 3 * * *", params={"name": "sales"}, label="Sales")
    hourly = Schedule(name="hourly", every=3600, params={"name": "x"}, user_id="alice")
    kind = report_kind(nightly, hourly)
    await asyncio.gather(*(site.runner(kind).fire_due() for _ in range(5)))
    shown = await site.service.get("system", "report:nightly")
    told = {name: shown[name] for name in ("kind", "label", "params", "source", "enabled")}
    assert told == {
        "kind": "report",
        "label": "Sales",
        "params": {"name": "sales", "pages": 10},
        "source": "code",
        "enabled": True,
    }
    assert (await site.service.get("alice", "report:hourly"))["every"] == 3600
    kept = [await site.redis.dump(f"{{rtq}}:{name}") for name in STATES]
    await site.runner(kind).fire_due()
    assert [await site.redis.dump(f"{{rtq}}:{name}") for name in STATES] == kept
    await site.make_due("report:nightly", user="system")
    await site.runner(kind).fire_due()
    [task] = await site.tasks("system")
    assert (task.label, task.job.schedule) == ("Sales", "report:nightly")
    assert task.task_id.startswith("report-nightly-")
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_schedule_of_code_that_changes_is_replaced(site: Site) -> None:
    """Its time is kept if it fires as before; who switched it off meant it to be."""
    every = Schedule(name="a", every=60, params={"name": "x"})
    await site.runner(report_kind(every)).fire_due()
    due = await site.make_due("report:a", -7, user="system")
    await site.runner(report_kind(attrs.evolve(every, params={"name": "y"}))).fire_due()
    stored = await site.stored("report:a", "system")
    assert stored.definition is not None
    assert (stored.definition.params["name"], stored.due) == ("y", due)
    await site.runner(report_kind(attrs.evolve(every, every=7200))).fire_due()
    stored = await site.stored("report:a", "system")
    assert stored.due is not None
    assert stored.due > due + 3600
    await site.service.put("system", "report:a", {"enabled": False})
    await site.runner(report_kind(attrs.evolve(every, every=60))).fire_due()
    stored = await site.stored("report:a", "system")
    assert (stored.enabled, stored.due) == (False, None)
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_schedule_that_code_has_no_more_is_dropped_by_that_version_or_a_later_one(
    site: Site,
) -> None:
    """An earlier version of the kind, started late, neither drops nor brings back anything."""
    a, b = (Schedule(name=name, every=60, params={"name": name}) for name in "ab")
    await site.runner(report_kind(a, b, version=2)).fire_due()
    await site.runner(report_kind(attrs.evolve(a, every=90), version=1)).fire_due()
    names = [one["name"] for one in (await site.service.find("system", "", 10))["items"]]
    assert names == ["report:a", "report:b"]
    assert (await site.service.get("system", "report:a"))["every"] == 60
    await site.runner(report_kind(b, version=2)).fire_due()
    names = [one["name"] for one in (await site.service.find("system", "", 10))["items"]]
    assert names == ["report:b"]
    # Of another kind and of a user nothing goes.
    await site.service.create("system", NIGHTLY)
    await site.runner(report_kind(name="other", version=3)).fire_due()
    await site.runner(report_kind(version=3)).fire_due()
    names = [one["name"] for one in (await site.service.find("system", "", 10))["items"]]
    assert names == ["nightly"]
    assert await site.faults() == []


@pytest.mark.gen_test
async def test_two_kinds_and_a_user_may_have_a_schedule_of_one_name(site: Site) -> None:
    nightly = Schedule(name="nightly", cron="0 3 * * *", params={"name": "x"})
    await site.runner(report_kind(nightly), report_kind(nightly, name="other")).fire_due()
    await site.service.create("system", NIGHTLY)
    names = [one["name"] for one in (await site.service.find("system", "", 10))["items"]]
    assert names == ["nightly", "other:nightly", "report:nightly"]


@pytest.mark.gen_test
async def test_schedule_of_code_is_switched_and_run_but_not_replaced(site: Site) -> None:
    nightly = Schedule(name="nightly", cron="0 3 * * *", params={"name": "x"})
    kind = report_kind(nightly)
    await site.runner(kind).fire_due()
    with pytest.raises(ScheduleConflict, match="stands in the code of its kind"):
        await site.service.put(
            "system", "report:nightly", dict(NIGHTLY) | {"name": "report:nightly"}
        )
    assert (await site.service.run_now("system", "report:nightly")).label == "Report x"
    await site.service.delete("system", "report:nightly")
    assert await site.redis.exists("{rtq}:schedules") == 0
    await site.runner(kind).fire_due()
    assert (await site.service.get("system", "report:nightly"))["enabled"]


@pytest.mark.gen_test
async def test_redis_that_was_emptied_gets_the_schedules_of_code_again(site: Site) -> None:
    runner = site.runner(report_kind(Schedule(name="a", every=60, params={"name": "x"})))
    await runner.fire_due()
    await site.redis.flushall()
    assert await runner.fire_due() == 0
    await runner.fire_due()
    assert (await site.service.get("system", "report:a"))["next_at"]


@pytest.mark.gen_test
async def test_runner_sleeps_until_a_time_and_is_woken_by_an_earlier_one(site: Site) -> None:
    """Nobody looks while nothing is due; a schedule that comes is known at once."""
    runner, looks = site.runner(), 0
    fire_due = runner.fire_due

    async def counted() -> float:
        nonlocal looks
        looks += 1
        return await fire_due()

    runner.fire_due = counted  # type: ignore[method-assign]
    async with site.redis.pubsub() as pubsub, running(runner):
        await pubsub.subscribe("rt:schedules")
        await until(lambda: looks, equal=1)
        await site.service.create("alice", NIGHTLY)
        runner.deliver(await _message(pubsub))
        second = {"name": "second", "every": 1, "overlap": "queue"}
        await site.service.create("alice", MINUTE | second)
        assert looks == 1
        runner.deliver(await _message(pubsub))
        await until(lambda: _fired_over(site, "second", 3))
        # One to find when the next is due, two for each time.
        assert looks <= 3 + 3 * 3
        seen = looks
        runner.gap()
        await until(lambda: looks > seen)
    late = [one.created_at - int(one.task_id.rpartition("-")[2]) for one in await site.tasks()]
    assert all(0 <= one < 0.9 for one in late)


async def _fired_over(site: Site, name: str, count: int) -> bool:
    return (await site.stored(name)).state.fired >= count


async def _message(pubsub: Any) -> Message:
    async def heard() -> dict[str, Any] | None:
        message: dict[str, Any] | None = await pubsub.get_message(ignore_subscribe_messages=True)
        return message

    message = await until(heard)
    assert message is not None
    return Message.decode(message["data"])


@pytest.mark.gen_test
async def test_runner_outlasts_messages_that_say_nothing(site: Site) -> None:
    runner = site.runner()
    async with running(runner):
        for data in ({}, {"due_in": None}, {"due_in": "soon"}, {"due_in": -5}):
            runner.deliver(Message.of("wake", data))
        runner.deliver(Message.of("settings", {"due_in": 0}))
        assert not runner.is_behind(None)
        await site.service.create("alice", MINUTE | {"every": 1})
        runner.gap()
        await until(lambda: site.tasks())


KINDS = """
import attrs
from tornado_rt.work import Kind, Run, Schedule

@attrs.frozen
class Report:
    name: str

report = Kind(
    "report",
    Report,
    label="Report {name}",
    schedules=[Schedule(name="often", every=1, params={"name": "often"}, overlap="queue")],
)

@report.handler
async def run(params: Report, run: Run) -> str:
    return params.name
"""


@pytest.fixture
def working(settings: Settings, redis: Redis, database: Any, tmp_path: Path) -> Settings:
    """Settings of a server with a worker and a kind that has a schedule."""
    # A process imports one module of a name.
    module = tmp_path / (re.sub(r"\W", "_", f"scheduled_{tmp_path.name}") + ".py")
    module.write_text(KINDS)
    return settings.changed(kinds=[str(module)], worker_concurrency=2)


async def _ended_of(client: Client, name: str) -> list[dict[str, Any]]:
    shown = (await client.get(f"/api/tasks?status=completed&q={name}")).body["items"]
    return [one for one in shown if one["label"] == f"Report {name}"]


@pytest.mark.gen_test
async def test_schedule_is_made_watched_and_dropped_over_http(
    working: Settings, make_token: Token
) -> None:
    """Its tasks run; a second later it is told what it did."""
    async with serving(working, make_token("alice")) as alice:
        body = MINUTE | {"every": 1, "overlap": "queue"}
        made = await alice.post("/api/schedules", body)
        assert (made.status, made.headers["Location"]) == (201, "/api/schedules/minute")
        assert made.body["source"] == "api"
        await until(lambda: _ended_of(alice, "x"))
        shown = (await alice.get("/api/schedules/minute")).body
        assert shown["fired"] >= 1
        assert shown["last_at"] < shown["next_at"]
        task = (await alice.get(f"/api/tasks/{shown['last_task_id']}")).body
        assert (task["label"], task["schedule"]) == ("Report x", "minute")
        listed = (await alice.get("/api/schedules")).body
        assert listed == {"items": [shown | _moving(listed["items"][0])], "next": None}
        again = await alice.post("/api/schedules", body)
        assert (again.status, again.body["detail"]) == (409, "there is a schedule minute already")
        put = await alice.send("PUT", "/api/schedules/minute", {"enabled": False})
        assert (put.status, put.body["enabled"], put.body["next_at"]) == (200, False, None)
        other = {"kind": "report", "cron": "0 3 * * *", "params": {"name": "y"}}
        assert (await alice.send("PUT", "/api/schedules/other", other)).status == 201
        run = await alice.post("/api/schedules/other/run")
        assert (run.status, run.body["label"]) == (202, "Report y")
        assert run.headers["Location"] == run.body["links"]["self"]
        await until(lambda: _ended_of(alice, "y"))
        assert (await alice.delete("/api/schedules/minute")).status == 204
        assert (await alice.delete("/api/schedules/minute")).status == 404
        assert (await alice.get("/api/schedules/minute")).status == 404


def _moving(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what may have changed between two readings."""
    fired = ("next_at", "last_at", "last_task_id", "fired", "next_ends_at")
    learned = ("usual_seconds", "usual_low", "usual_high")
    return {name: shown[name] for name in (*fired, *learned)}


@pytest.mark.gen_test
async def test_schedule_of_code_fires_in_a_server(working: Settings, make_token: Token) -> None:
    """Under its kind's name, for the user `system`; an admin sees it, switches it and runs it."""
    async with serving(working, make_token("root", scope="rt:admin")) as admin:
        address = "/api/schedules/report:often?user=system"
        await until(lambda: _fires_over(admin, address, 2))
        assert (await admin.send("PUT", address, {"enabled": False})).status == 200
        run = await admin.post("/api/schedules/report%3Aoften/run?user=system")
        assert (run.status, run.body["label"]) == (202, "Report often")
        wrong = await admin.send("PUT", address, MINUTE | {"name": "report:often"})
        assert (wrong.status, "only enabled can be changed" in wrong.body["detail"]) == (409, True)
        everybody = (await admin.get("/api/schedules?user=*")).body["items"]
        assert [(one["user_id"], one["name"]) for one in everybody] == [("system", "report:often")]


async def _fires_over(client: Client, address: str, count: int) -> bool:
    answer = await client.get(address)
    return bool(answer.status == 200 and answer.body["fired"] >= count)


@pytest.mark.gen_test
async def test_only_an_admin_touches_the_schedules_of_another(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        for name in ("a", "b", "c"):
            body = NIGHTLY | {"name": name}
            assert (await admin.post("/api/schedules?user=alice", body)).status == 201
        assert (await alice.get("/api/schedules/a")).body["user_id"] == "alice"
        bob = alice.as_user(make_token("bob"))
        assert (await bob.get("/api/schedules/a")).status == 404
        for method, path in (
            ("GET", "/api/schedules?user=alice"),
            ("GET", "/api/schedules?user=*"),
            ("GET", "/api/schedules/a?user=alice"),
            ("DELETE", "/api/schedules/a?user=alice"),
            ("POST", "/api/schedules/a/run?user=alice"),
        ):
            assert (await bob.send(method, path)).status == 403
        assert (await bob.get("/api/schedules?user=bob")).body == {"items": [], "next": None}
        page = (await admin.get("/api/schedules?user=alice&limit=2")).body
        assert [one["name"] for one in page["items"]] == ["a", "b"]
        page = (await admin.get(f"/api/schedules?user=alice&limit=2&after={page['next']}")).body
        assert ([one["name"] for one in page["items"]], page["next"]) == (["c"], None)
        for path in ("?after=%C3%A9", "?after=x", "?limit=0", "/a?user=*"):
            assert (await admin.get(f"/api/schedules{path}")).status == 400
        assert (await admin.delete("/api/schedules/a?user=alice")).status == 204


def _cursor(text: str) -> str:
    return quote(base64.urlsafe_b64encode(text.encode()).decode())


FORGED = ("\x01", "alice\n", "alice\na", "alicf\na", "\n", "bob\n", "a\x00", "é", "A", "a:b:c")


@pytest.mark.gen_test
async def test_forged_cursor_shows_nothing_of_another(working: Settings, make_token: Token) -> None:
    """It is none of the user's list, which has names alone; nor is what decodes to nothing."""
    async with serving(working, make_token("zoe")) as zoe:
        alice, star = (zoe.as_user(make_token(user)) for user in ("alice", "*"))
        admin = zoe.as_user(make_token("root", scope="rt:admin"))
        for name in ("a", "b", "c"):
            assert (await alice.post("/api/schedules", NIGHTLY | {"name": name})).status == 201
        for after in (*map(_cursor, FORGED), "!!", "AQ", "=", "Y!Q=="):
            for path in ("", "user=zoe&"):
                refused = await zoe.get(f"/api/schedules?{path}after={after}")
                told = "after must be the `next` of another page"
                assert (refused.status, refused.body["detail"]) == (400, told), after
        # A text that only looks like a cursor is one of their own list, in which nothing is.
        for name in ("a", "alice", "report:often"):
            found = await zoe.get(f"/api/schedules?after={_cursor(name)}")
            assert found.body == {"items": [], "next": None}
        page = (await alice.get("/api/schedules?limit=2")).body
        assert page["next"] == base64.urlsafe_b64encode(b"b").decode()
        of_all = (await admin.get("/api/schedules?user=*&limit=2")).body
        assert of_all["next"] == base64.urlsafe_b64encode(b"alice\nb").decode()
        rest = (await admin.get(f"/api/schedules?user=*&after={quote(of_all['next'])}")).body
        told = [(one["user_id"], one["name"]) for one in rest["items"]]
        assert told == [("alice", "c"), ("system", "report:often")]
        # Nor do the cursors of the two lists serve the other.
        for user, after in (("alice", of_all["next"]), ("*", page["next"])):
            path = f"/api/schedules?user={user}&after={quote(after)}"
            assert (await admin.get(path)).status == 400
            assert (await zoe.get(path)).status == 403
        # A user of this name is not everybody.
        for path in ("", "?user=*"):
            assert (await star.get(f"/api/schedules{path}")).body == {"items": [], "next": None}


@pytest.mark.gen_test
async def test_wrong_schedules_are_problems_over_http(working: Settings, make_token: Token) -> None:
    async with serving(working, make_token("alice")) as alice:
        wrong = await alice.post("/api/schedules", NIGHTLY | {"cron": "x", "params": {}})
        assert wrong.status == 422
        assert wrong.body["errors"] == [
            "cron must have five fields: minute, hour, day-of-month, month, day-of-week",
            "params.name is required",
        ]
        assert (await alice.post("/api/schedules", b"{")).status == 400
        assert (await alice.post("/api/schedules", [])).status == 422
        assert (await alice.post("/api/schedules/nothing/run")).status == 404
        for name in ("Not-a-name", "%C3%BC", "a%2Fb", "a%0Ab", "x" * 65, "A:b", "a:b:c"):
            path, body = f"/api/schedules/{name}", MINUTE | {"name": unquote(name)}
            for method, of_it in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
                missing = await alice.send(method, path + of_it)
                told = f"there is no schedule {unquote(name)}"
                assert (missing.status, missing.body["detail"]) == (404, told)
            for put in (
                await alice.send("PUT", path, body),
                await alice.post("/api/schedules", body),
            ):
                rule = "name must be 1 to 64 of a-z, 0-9, dot, dash and underscore,"
                assert (put.status, put.body["errors"][0].startswith(rule)) == (422, True)
        nobody = alice.as_user("")
        assert (await nobody.get("/api/schedules")).status == 401


@pytest.mark.gen_test
async def test_schedule_of_code_that_cannot_be_used_stops_the_start(
    working: Settings, make_token: Token
) -> None:
    Path(working.workers.kinds[0]).write_text(
        KINDS.replace('params={"name": "often"}', "params={}")
    )
    with pytest.raises(KindError, match="schedule 'often': params\\.name"):
        async with serving(working, make_token("alice")):
            pass


@pytest.mark.gen_test
async def test_each_time_makes_one_task_whoever_is_killed(tmp_path: Path) -> None:
    """Processes are killed in turn, and Redis too; no time is left out, none makes two tasks."""
    server = RedisServer(tmp_path)
    await server.restart()
    firing = [Child(f"fires{number}", _command(server.url), tmp_path, {}) for number in range(3)]
    try:
        async with Redis.from_url(server.url) as redis:
            queue = QueueService(redis, max_waiting_per_user=0)
            site = site_of(redis, queue, {"report": report_kind()})
            names = [f"s{number}" for number in range(3)]
            for name in names:
                second = {"name": name, "every": 1, "overlap": "queue", "missed": "all"}
                await site.service.create("alice", MINUTE | second)
            for child in firing:
                child.start()
            for number in range(9):
                before = await _fired(site, names[0])
                victim = firing[number % 3]
                await victim.kill()
                if number == 4:
                    await server.kill()
                    await server.restart()
                victim.start()
                await until(lambda before=before: _fires_on(site, names[0], before))
            for child in firing:
                await child.kill()
            made = await site.tasks()
            for name in names:
                await _has_made_one_each_second(site, name, made)
            assert await site.faults() == []
    finally:
        for child in (*firing, server):
            await child.kill()


def _command(url: str) -> list[str]:
    return [sys.executable, "-m", "tests.schedule_process", url]


async def _has_made_one_each_second(site: Site, name: str, made: list[Task]) -> None:
    stored = await site.stored(name)
    assert stored.definition is not None
    assert stored.due is not None
    times = range(int(stored.definition.start) + 1, int(stored.due))
    ids = [task.task_id for task in made if task.job.schedule == name]
    assert sorted(int(one.rpartition("-")[2]) for one in ids) == list(times)
    assert (stored.state.fired, stored.state.skipped) == (len(times), 0)


async def _fired(site: Site, name: str) -> int:
    return (await site.stored(name)).state.fired


async def _fires_on(site: Site, name: str, before: int) -> bool:
    return await _fired(site, name) > before
