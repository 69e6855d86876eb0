"""Print figures of the code: `python -m tools.figures [TREE ...]`.

Lengths of functions, modules and classes that are large, complexity (McCabe 1976, as ruff counts
it), and comments and docstrings that are no plain English.
"""

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from tools.language import blocks, faults, sources, tree_of

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("settings.py", "run.py", "tornado_rt", "services", "handlers", "clients/python/src")
MOST_LINES, MOST_METHODS, MOST_FIELDS, MOST_COMPLEXITY, LONG = 350, 20, 12, 10, 15
# Words by which a docstring gives the reason why a module or class is large.
REASONS = ("It is long because", "It is large because", "It is wide because")
OF_ATTRS = {"define", "frozen", "mutable", "field"}


@attrs.frozen
class Large:
    """A module or class beyond a bound; `has_reason`: its docstring says why."""

    name: str
    size: str
    has_reason: bool


def modules(tree: Path) -> Iterator[Path]:
    """Yield the modules of the product."""
    for name in PRODUCT:
        path = tree / name
        yield from [path] if path.suffix else sorted(path.rglob("*.py"))


def large_modules(tree: Path) -> Iterator[Large]:
    """Yield the modules over 350 lines."""
    for path in modules(tree):
        text = path.read_text()
        lines = text.count("\n")
        if lines > MOST_LINES:
            yield Large(str(path.relative_to(tree)), f"{lines} lines", _has_reason(tree_of(text)))


def large_classes(tree: Path) -> Iterator[Large]:
    """Yield the classes with over 20 public methods or 12 fields of attrs."""
    for path in modules(tree):
        for node in ast.walk(tree_of(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods, fields = _methods(node), _fields(node)
                if methods > MOST_METHODS or fields > MOST_FIELDS:
                    yield Large(
                        f"{path.relative_to(tree)}: {node.name}",
                        f"{methods} public methods, {fields} fields",
                        _has_reason(node),
                    )


def _has_reason(node: ast.Module | ast.ClassDef) -> bool:
    told = " ".join((ast.get_docstring(node) or "").split())
    return any(reason in told for reason in REASONS)


def _methods(node: ast.ClassDef) -> int:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(
        isinstance(one, functions)
        and not one.name.startswith("_")
        and not any(_name(each) in {"property", "cached_property"} for each in one.decorator_list)
        for one in node.body
    )


def _fields(node: ast.ClassDef) -> int:
    if not any(_name(one) in OF_ATTRS for one in node.decorator_list):
        return 0
    return sum(isinstance(one, ast.AnnAssign) for one in node.body)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def lengths(tree: Path) -> list[int]:
    """Return the lines of each function, without its docstring and decorators."""
    found = []
    for path in modules(tree):
        for node in ast.walk(tree_of(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                end = node.end_lineno or node.lineno
                found.append(end - body[0].lineno + 1 if body else 0)
    return sorted(found)


def count_complex(tree: Path) -> int:
    """Return the number of functions over a complexity of 10."""
    command = [
        *(sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "C901"),
        *("--config", f"lint.mccabe.max-complexity={MOST_COMPLEXITY}", "--output-format", "json"),
        *(str(tree / name) for name in PRODUCT),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(json.loads(done.stdout))


def report(tree: Path) -> str:
    """Return the figures as a table in Markdown."""
    sizes = lengths(tree)
    count = len(sizes)
    texts = [text for path in sources(tree) for _, text in blocks(path)]
    dialect = sum(bool(faults(text)) for text in texts)
    long, wide = list(large_modules(tree)), list(large_classes(tree))
    rows = [
        ("functions", f"{count}"),
        ("lines of a function: median, 90 %, 99 %", _quantiles(sizes)),
        (f"functions over {LONG} lines", f"{sum(size > LONG for size in sizes) / count:.1%}"),
        (f"functions over a complexity of {MOST_COMPLEXITY}", f"{count_complex(tree) / count:.2%}"),
        (f"modules over {MOST_LINES} lines, of these without a reason", _of(long)),
        (f"classes over {MOST_METHODS} methods or {MOST_FIELDS} fields, the same", _of(wide)),
        ("comments and docstrings", f"{len(texts)}"),
        ("of these not in plain English", f"{dialect / len(texts):.2%}"),
    ]
    return "".join(f"| {name} | {value} |\n" for name, value in rows)


def _quantiles(sizes: list[int]) -> str:
    hundredths = statistics.quantiles(sizes, n=100)
    return ", ".join(f"{hundredths[place - 1]:.0f}" for place in (50, 90, 99))


def _of(found: list[Large]) -> str:
    return f"{len(found)}, {sum(not one.has_reason for one in found)}"


def main() -> None:
    """Print the figures of each tree."""
    for tree in map(Path, sys.argv[1:] or [str(ROOT)]):
        print(f"| {tree.name} | |\n| --- | --- |\n{report(tree)}")


if __name__ == "__main__":
    main()
