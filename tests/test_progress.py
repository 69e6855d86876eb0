"""Snapshots as they are shown, and where they are kept."""

from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.progress import FileProgressStore, PlanView, get_progress
from services.progress.snapshot import read_kept
from tornado_rt.work import Plan, Step

PLAN = Plan([Step("probe", 5), Step("cut", 90, "Cut the film"), Step("upload", 5)])
NESTED = Plan(
    [
        Step("read"),
        Step("pages", 3, "Pages", [Step("one", title="Page 1"), Step("two", 2, "Page 2")]),
    ]
)


def show(plan: Plan | None = PLAN, /, **fields: Any) -> dict[str, Any]:
    """Return a snapshot with these fields as it is shown."""
    kept = {"status": "processing", "plan": "0" * 16, "marks": "crp", "current_step": 1}
    shown: dict[str, Any] = orjson.loads(PlanView(plan).show(kept | fields))
    return shown


def statuses(shown: dict[str, Any]) -> list[str]:
    return [step["status"] for step in shown["steps"]]


def test_steps_stand_in_the_place_of_the_plan() -> None:
    shown = show(task_id="t1", message="Cutting")
    assert shown == {
        "status": "processing",
        "current_step": 1,
        "task_id": "t1",
        "message": "Cutting",
        "steps": [
            {"name": "probe", "description": "probe", "weight": 0.05, "status": "completed"},
            {"name": "cut", "description": "Cut the film", "weight": 0.9, "status": "current"},
            {"name": "upload", "description": "upload", "weight": 0.05, "status": "pending"},
        ],
    }


def test_steps_inside_others_have_their_groups_and_their_share() -> None:
    read, one, two = show(NESTED)["steps"]
    assert (read["weight"], "group" in read) == (0.25, False)
    assert one == {
        "name": "one",
        "description": "Page 1",
        "weight": 0.25,
        "status": "current",
        "group": ["Pages"],
    }
    assert (two["weight"], two["group"]) == (0.5, ["Pages"])


@pytest.mark.parametrize(
    ("status", "marks", "states"),
    [
        ("queued", "ppp", ["pending", "pending", "pending"]),
        ("queued", "crp", ["completed", "pending", "pending"]),
        ("processing", "crp", ["completed", "current", "pending"]),
        ("processing", "rsr", ["current", "skipped", "current"]),
        ("failed", "crp", ["completed", "failed", "pending"]),
        ("dead", "srp", ["skipped", "failed", "pending"]),
        ("failed", "cpp", ["completed", "failed", "pending"]),
        ("failed", "ccp", ["completed", "failed", "pending"]),
        ("dead", "csp", ["completed", "skipped", "pending"]),
        ("cancelled", "crp", ["completed", "pending", "pending"]),
        ("completed", "cpr", ["completed", "completed", "completed"]),
        ("completed", "csp", ["completed", "skipped", "completed"]),
    ],
)
def test_steps_are_shown_by_the_status_and_their_marks(
    status: str, marks: str, states: list[str]
) -> None:
    """A failure between two steps is one of the step that was the current."""
    assert statuses(show(status=status, marks=marks)) == states


@pytest.mark.parametrize("marks", [None, 7, [], "", "c", "cccccccc", "xyz", "ccé"])
@pytest.mark.parametrize("status", ["processing", "failed", None, [], "nap"])
@pytest.mark.parametrize("here", [1, 10**9, -5, None, True, "1"])
def test_marks_that_do_not_fit_the_plan_are_read_as_far_as_they_do(
    marks: Any, status: Any, here: Any
) -> None:
    """It came over Redis, where anybody may write: the reader must be able to go on."""
    shown = show(marks=marks, status=status, current_step=here)
    assert [step["name"] for step in shown["steps"]] == ["probe", "cut", "upload"]
    known = {"completed", "current", "failed", "pending", "skipped"}
    assert set(statuses(shown)) <= known
    assert "marks" not in shown


def test_without_a_plan_there_are_no_steps() -> None:
    shown = show(None, plan=None, marks="", current_step=0)
    assert (shown["steps"], "plan" in shown) == ([], False)


@given(st.text(min_size=1), st.text())
def test_titles_are_carried_through(name: str, title: str) -> None:
    plan = Plan([Step(name, 1, title)])
    [step] = show(plan)["steps"]
    assert (step["name"], step["description"]) == (plan.steps[0].name, plan.steps[0].title)


@pytest.mark.parametrize(
    ("snapshot", "fields"),
    [
        (b'{"batch_id":"b1","progress":5}', None),
        (b'{"label":"a \\"plan\\" of mine"}', None),
        (b'{"label":"plan"}', None),
        (b'["plan"]', None),
        (b'{"plan":null}', {"plan": None}),
        (b'{"plan":"market:3"}', {"plan": "market:3"}),
    ],
)
def test_only_what_names_a_plan_is_shown_otherwise(snapshot: bytes, fields: Any) -> None:
    assert read_kept(snapshot) == fields


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="unexpected"):
        read_kept(b'"plan"x')


@attrs.define
class Report:
    """The least that a store keeps."""

    task_id: str = "t1"
    status: str = "processing"
    progress: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "status": self.status, "progress": self.progress}

    def fragment(self) -> bytes:
        return b'"progress":%d' % self.progress


@pytest.mark.gen_test
async def test_files_keep_the_newest_snapshot(tmp_path: Path) -> None:
    """Without Redis progress is kept in a file a task, and found by its id."""
    store = FileProgressStore(tmp_path / "progress")
    assert await store.load("t1") is None
    await store.save(Report(progress=40.0))
    await store.save(Report(progress=60.0))
    assert await store.load("t1") == {"task_id": "t1", "status": "processing", "progress": 60}


@pytest.mark.gen_test
async def test_without_a_store_files_are_kept_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RT_DATA_DIR", str(tmp_path))
    await FileProgressStore().save(Report())
    assert (tmp_path / "progress" / "t1.json").exists()
    assert await get_progress("t1") == Report().to_dict()
    assert await get_progress("t2") is None


@pytest.mark.gen_test
@pytest.mark.parametrize("task_id", ["../x", "a/b", "", "x" * 65, "a\0"])
async def test_task_id_is_no_way_out_of_the_folder(tmp_path: Path, task_id: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        await FileProgressStore(tmp_path).load(task_id)
