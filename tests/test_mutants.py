"""The short form of `make mutate`: a few changes of one module, which its tests notice."""

from pathlib import Path

import pytest

from tests.long.mutate import copy_tree, mutate, report

pytestmark = pytest.mark.long


def test_mutants_are_made_and_killed(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    found = mutate(tree, "tornado_rt/head.py", 4, seed=1)
    assert len(found) == 4
    assert sum(one.killed for one in found) >= 3, report(found, 1)
