"""One command makes a release: what it refuses, and what it writes."""

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.release import CHANGES, PLACES, UNRELEASED, NoRelease, check, set_version, version_of
from tornado_rt import __version__

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(root: Path, *command: str) -> None:
    subprocess.run(["git", *WHO, *command], cwd=root, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of a release, committed."""
    for path in (*PLACES, CHANGES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return tmp_path


def test_version_is_one_everywhere() -> None:
    assert version_of(ROOT) == __version__


def test_release_writes_its_version_and_its_day_everywhere(tree: Path) -> None:
    check(tree, "9.8.7")
    before = (tree / CHANGES).read_text()
    set_version(tree, "9.8.7", date(2031, 2, 3))
    assert version_of(tree) == "9.8.7"
    after = (tree / CHANGES).read_text()
    assert after == before.replace(UNRELEASED, f"{UNRELEASED}\n\n## [9.8.7] - 2031-02-03")
    git(tree, "commit", "--quiet", "--all", "--message", "release")
    with pytest.raises(NoRelease, match="nothing under"):
        check(tree, "9.8.8")


@pytest.mark.parametrize("version", ["1", "1.2", "v1.2.3", "1.2.3rc1", ""])
def test_text_that_is_no_version_is_refused(tree: Path, version: str) -> None:
    with pytest.raises(NoRelease, match="is no version"):
        check(tree, version)


def test_version_that_is_not_above_the_last_is_refused(tree: Path) -> None:
    with pytest.raises(NoRelease, match="is not above"):
        check(tree, __version__)


def test_tag_that_there_is_already_is_refused(tree: Path) -> None:
    git(tree, "tag", "v9.8.7")
    with pytest.raises(NoRelease, match="a tag v9"):
        check(tree, "9.8.7")


def test_changed_tree_is_refused(tree: Path) -> None:
    (tree / "new").write_text("x")
    with pytest.raises(NoRelease, match="not committed"):
        check(tree, "9.8.7")


def test_two_versions_are_refused(tree: Path) -> None:
    path = tree / "clients/js/package.json"
    path.write_text(path.read_text().replace(__version__, "0.0.9"))
    with pytest.raises(NoRelease, match=r"written as 0\.0\.9"):
        version_of(tree)
