"""The garbage collector in our processes."""

import subprocess
import sys

from tests.conftest import ROOT

# In a process of its own: what is frozen stays so.
CODE = """
import gc
from tornado_rt.garbage import YOUNG_OBJECTS, collect_seldom

class Cycle:
    alive = most = 0
    def __init__(self):
        self.itself = self
        Cycle.alive += 1
        Cycle.most = max(Cycle.most, Cycle.alive)
    def __del__(self):
        Cycle.alive -= 1

collect_seldom()
assert gc.get_freeze_count() > 1000
before = gc.get_stats()[0]["collections"]
kept = [[] for _ in range(YOUNG_OBJECTS // 2)]
assert gc.get_stats()[0]["collections"] == before
for _ in range(5 * YOUNG_OBJECTS):
    Cycle()
assert YOUNG_OBJECTS / 4 < Cycle.most < 1.1 * YOUNG_OBJECTS, Cycle.most
"""


def test_cycles_are_collected_though_seldom() -> None:
    subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, check=True)
