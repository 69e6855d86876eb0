"""The pages and files for people who come to change something."""

import re
import subprocess

import yaml

from tests.conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_each_named_file_is_there() -> None:
    names = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md))`", PAGE))
    assert len(names) > 25
    folders = ("", "services/queue/")
    missing = {
        name
        for name in names
        if not any((ROOT / folder / name).exists() for folder in folders) and name not in {"dist/"}
    }
    assert missing == set()


def test_each_named_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+[a-z-]*)\b(?= ?[`;A-Z\n])", PAGE)) - {"it"} <= targets


def test_each_named_name_is_in_the_code() -> None:
    for path, name in (
        ("tornado_rt/protocol.py", "class MessageType"),
        ("tornado_rt/protocol.py", "class ClientMessageType"),
        ("tornado_rt/work/attempts/models.py", "class Job"),
        ("services/submissions.py", "class TaskFields"),
        ("tornado_rt/work/kind.py", "OWN_FIELDS"),
        ("clients/js/src/elements/task-details.js", "function paramsOf"),
        ("static/admin/task.js", "#facts()"),
    ):
        assert name in (ROOT / path).read_text(), (path, name)


def test_hook_before_a_commit_runs_what_make_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for repo in hooks for hook in repo["hooks"]] == ["make lint"]
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", "lint"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for tool in ("ruff check .", "ruff format --check .", "bin/mypy", "lint-imports", "npm run"):
        assert tool in planned
