"""`make mutate`: change the code at random places, one at a time, and see the tests fail.

    python -m tests.long.mutate [--each N] [--seed N] [--only NAME] [--results FILE]

Cosmic Ray makes the mutants, in a copy of the tree; `--each` of each module are drawn by the seed.
A mutant that no test of its module notices has survived. It exits with 1 if more than one in ten
has.
"""

import argparse
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
RAY = ROOT / ".venv-mutate" / "bin" / "cosmic-ray"
LEAST_KILLED = 0.9
# A test that waits for ever is a mutant killed.
MOST_SECONDS = 240.0
# The quickest first: a mutant that is killed needs no more of them.
QUEUE_TESTS = [
    *("test_claims", "test_states", "test_queue", "test_plans", "test_rerun", "test_unique"),
    *("test_kept", "test_upkeep", "test_queue_bounds", "test_estimates"),
]
QUEUE_MODULES = ("adding", "claiming", "jobs", "leasing", "operating", "replies", "reading")
# Each module with the tests that are about it.
TARGETS = {
    "tornado_rt/frames.py": ["unit/test_frames"],
    "tornado_rt/subscription.py": ["unit/test_subscription", "test_stream_gaps", "test_hub"],
    "tornado_rt/protocol.py": ["test_protocol", "unit/test_subscription", "test_streams"],
    "tornado_rt/backlog.py": ["unit/test_backlog", "test_sockets"],
    "tornado_rt/head.py": ["unit/test_head"],
    "tornado_rt/connection.py": ["test_heartbeat", "test_sockets", "test_streams"],
    **{f"services/queue/{name}.py": QUEUE_TESTS for name in QUEUE_MODULES},
}


@attrs.frozen
class Mutant:
    """A change of a module; `killed`: a test has failed."""

    path: str
    line: int
    operator: str
    killed: bool
    diff: str


def main() -> int:
    """Make the mutants, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=30, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a module, more may be named")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    found: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder) / "tree")
        for path in options.only or TARGETS:
            mutants = mutate(tree, path, options.each, options.seed)
            found += mutants
            killed = sum(one.killed for one in mutants)
            print(f"{path}: {killed} of {len(mutants)} killed", flush=True)
            print(survivors(mutants), flush=True)
    text = report(found, options.seed)
    print(text)
    if options.results:
        options.results.write_text(text)
    return 0 if sum(one.killed for one in found) >= LEAST_KILLED * len(found) else 1


def copy_tree(tree: Path) -> Path:
    """Copy what the repository has; the environment is shared."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    return tree


def mutate(tree: Path, path: str, count: int, seed: int) -> list[Mutant]:
    """Make at most `count` mutants of a module, and run its tests on each."""
    tests = [f"tests/{name}.py" for name in TARGETS[path] if (tree / f"tests/{name}.py").exists()]
    command = f"{sys.executable} -m pytest -p no:xdist -p no:cacheprovider -x -q {' '.join(tests)}"
    config, session = tree / "mutate.toml", tree / "mutate.sqlite"
    session.unlink(missing_ok=True)
    config.write_text(
        "[cosmic-ray]\n"
        f'module-path = "{path}"\ntimeout = {MOST_SECONDS}\nexcluded-modules = []\n'
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    _ray(tree, "init", config.name, session.name)
    draw(session, tree / path, count, seed)
    _ray(tree, "exec", config.name, session.name)
    with sqlite3.connect(session) as opened:
        rows = opened.execute(
            "SELECT start_pos_row, operator_name, test_outcome, diff FROM mutation_specs"
            " JOIN work_results USING (job_id) ORDER BY start_pos_row"
        ).fetchall()
    return [Mutant(path, row[0], row[1], row[2] != "SURVIVED", row[3]) for row in rows]


def draw(session: Path, module: Path, count: int, seed: int) -> None:
    """Keep `count` mutants of the session; those that change nothing are left out."""
    lines = module.read_text().split("\n")
    with sqlite3.connect(session) as opened:
        rows = opened.execute(
            "SELECT job_id, start_pos_row, operator_name FROM mutation_specs ORDER BY job_id"
        ).fetchall()
        told = sorted(
            (line, operator, job)
            for job, line, operator in rows
            if not _is_equivalent(lines[line - 1], operator)
        )
        drawn = random.Random(seed).sample(told, min(count, len(told)))
        kept = [job for _, _, job in drawn]
        marks = ",".join("?" * len(kept))
        for table in ("mutation_specs", "work_items"):
            opened.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({marks})", kept)


def _is_equivalent(line: str, operator: str) -> bool:
    """Say whether a mutant changes nothing: the union of an annotation, or `is` of a constant.

    Members of an enum, None and small numbers are equal exactly when they are the same.
    """
    same = re.search(r"_(Is|Eq)_(Is|Eq)$|_(IsNot|NotEq)_(IsNot|NotEq)$", operator)
    is_union = "BitOr" in operator and " | None" in line and ("->" in line or ":" in line)
    return same is not None or is_union


def report(found: list[Mutant], seed: int) -> str:
    """Return the results in Markdown."""
    killed = sum(one.killed for one in found)
    lines = [
        "# Mutants of the code",
        "",
        f"`make mutate`, seed {seed}: {killed} of {len(found)} killed, "
        f"{killed / max(len(found), 1):.0%}.",
        "",
        "| module | mutants | killed |",
        "| --- | ---: | ---: |",
    ]
    for path in dict.fromkeys(one.path for one in found):
        own = [one for one in found if one.path == path]
        lines.append(f"| `{path}` | {len(own)} | {sum(one.killed for one in own)} |")
    return "\n".join([*lines, "", "## Survivors", "", survivors(found)])


def survivors(found: list[Mutant]) -> str:
    """Return the changes that no test has noticed."""
    lines = []
    for one in found:
        if not one.killed:
            changed = [
                line
                for line in (one.diff or "").split("\n")
                if line[:1] in "+-" and line[:3] not in ("+++", "---")
            ]
            lines += [f"`{one.path}`, line {one.line}:", "", "```diff", *changed, "```", ""]
    return "\n".join(lines)


def _ray(tree: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(RAY), *arguments], cwd=tree, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"cosmic-ray {arguments[0]}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
