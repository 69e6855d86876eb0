"""Rules of the layers that import-linter cannot state."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tools.figures import large_classes, large_modules
from tools.language import tree_of

ROOT = Path(__file__).resolve().parent.parent
OURS = ("tornado_rt", "handlers", "services", "settings", "run")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def importers(name: str, paths: list[Path]) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in paths
        if any(module == name or module.startswith(name + ".") for module in imports(path))
    }


def test_settings_imports_nothing_of_ours() -> None:
    assert not [name for name in imports(ROOT / "settings.py") if name.split(".")[0] in OURS]


def test_only_settings_reads_the_environment() -> None:
    paths = [*sources("tornado_rt", "handlers", "services"), ROOT / "run.py"]
    # Python's own path for the fork server, which cannot be told otherwise.
    paths.remove(ROOT / "tornado_rt" / "work" / "attempts" / "preloading.py")
    # It tells programs that handlers start of their trace.
    paths.remove(ROOT / "tornado_rt" / "work" / "attempts" / "spans.py")
    assert not [path for path in paths if re.search(r"environ\b|getenv", path.read_text())]


def test_only_one_module_imports_motor() -> None:
    found = importers("motor", sources("tornado_rt", "handlers", "services"))
    assert found == {"tornado_rt/mongo.py"}


def test_services_know_nothing_of_the_web() -> None:
    for name in ("tornado.web", "tornado.websocket", "tornado.httpserver"):
        assert importers(name, sources("services")) == set()


def test_handlers_reach_no_store() -> None:
    for name in ("redis", "motor", "pymongo"):
        assert importers(name, sources("handlers")) == set()


def waiting_loops(path: Path) -> Iterator[str]:
    """Yield where a loop does nothing but wait: its only step is a sleep."""
    for node in ast.walk(tree_of(path.read_text())):
        if isinstance(node, ast.While) and len(node.body) == 1 and "sleep(" in ast.unparse(node):
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_tests_wait_by_one_helper() -> None:
    """`tests.waiting` bounds each wait, and says what did not come."""
    tests = ROOT / "tests"
    # These handlers hang on purpose.
    hanging = {tests / "deeds.py", tests / "kind_deeds.py", *(tests / "jobs").glob("*.py")}
    waiting = set(sources("tests")) - hanging
    assert [place for path in sorted(waiting) for place in waiting_loops(path)] == []


def test_large_modules_and_classes_say_why_they_are() -> None:
    """Over 350 lines, 20 public methods or 12 fields: by a sentence of `tools.figures.REASONS`."""
    large = [*large_modules(ROOT), *large_classes(ROOT)]
    assert large
    assert [f"{one.name}: {one.size}" for one in large if not one.has_reason] == []


def test_only_what_speaks_http_imports_the_base_of_endpoints() -> None:
    endpoints = {"api", "app", "embedding", "listener", "sockets", "streams"}
    found = importers("tornado_rt.web", sources("tornado_rt", "handlers", "services"))
    outside = {path for path in found if not path.startswith("handlers/")}
    assert outside <= {f"tornado_rt/{name}.py" for name in endpoints}


def test_sets_of_errors_stand_once() -> None:
    """Each set of errors of a store that pass has one name."""
    text = "\n".join(path.read_text() for path in sources("tornado_rt", "handlers", "services"))
    sets = [
        frozenset(names.replace(" ", "").split(","))
        for names in re.findall(
            r"^[A-Z_]+ = \(((?:\w+, ?)*PyMongoError[\w, ]*)\)$", text, re.MULTILINE
        )
    ]
    assert len(sets) == len(set(sets)) >= 3


def test_a_public_class_has_a_name_of_its_own() -> None:
    """One word, one thing: docs/glossary.md."""
    places: dict[str, list[str]] = {}
    for path in sources("tornado_rt", "handlers", "services"):
        for node in tree_of(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
