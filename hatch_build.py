"""The build of the wheel from this repository; hatchling calls it (docs/decisions/0012).

The repository has `settings`, `handlers`, `services`, `examples` and `static` beside `tornado_rt`.
In site-packages these names would take the place of an application's own. In the wheel they stand
inside `tornado_rt`, and the imports of them name them there. So do parts of the Python client.
"""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PACKAGE = "tornado_rt"
MOVED = ("settings", "handlers", "services", "examples")
# The files of the wheel. Of the examples it has the one that a server offers by default.
SHIPPED = (
    *(PACKAGE, "settings.py", "handlers", "services", "static"),
    *("examples/__init__.py", "examples/stock_analysis.py", "examples/data"),
    # They are served.
    *("docs/openapi.yaml", "docs/openapi.json", "docs/asyncapi.yaml", "docs/asyncapi.json"),
)
# The parts of the Python client that the command uses: all but its I/O (docs/decisions/0016).
CLIENT = "clients/python/src/tornado_rt_client"
CLIENT_PARTS = (
    *("backoff.py", "errors.py", "event_stream.py", "events.py", "following.py", "records.py"),
    *("request.py", "seen.py", "time_left.py", "verbs.py"),
)
CLIENT_PACKAGE = "_client"
REQUIREMENTS = ("requirements.txt", "requirements-embedded.txt")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
MODULE_AS_TEXT = re.compile(r"\w+(\.\w+)+(:\w+)?")
# The names in the wheel, by those in the repository.
Moves = Mapping[str, str]
MOVES = {name: f"{PACKAGE}.{name}" for name in MOVED}
MOVES["tornado_rt_client"] = f"{PACKAGE}.{CLIENT_PACKAGE}"


class RequirementsHook(MetadataHookInterface):
    """Takes the dependencies from the files of requirements."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies."""
        root = Path(self.root)
        metadata["dependencies"] = [one for name in REQUIREMENTS for one in required(root / name)]


class PackageHook(BuildHookInterface):
    """Puts the moved modules into the wheel, inside the package."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lay the package out in a folder of its own, and have the wheel take it from there."""
        # An editable install imports from the repository itself.
        if version != "editable":
            self._made = tempfile.TemporaryDirectory()
            package = lay_out(Path(self.root), Path(self._made.name))
            build_data["force_include"][str(package)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        if version != "editable":
            self._made.cleanup()


def required(path: Path) -> Iterator[str]:
    """Yield the requirements in a file, without comments."""
    for line in path.read_text().splitlines():
        if requirement := line.partition("#")[0].strip():
            yield requirement


def lay_out(root: Path, folder: Path) -> Path:
    """Copy what the wheel has from the repository; return the package."""
    package = folder / PACKAGE
    for name in SHIPPED:
        target = package if name == PACKAGE else package / name
        if (root / name).is_dir():
            shutil.copytree(root / name, target, ignore=LEFT_OUT)
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(root / name, target)
    _add_client(root / CLIENT, package / CLIENT_PACKAGE)
    move_imports(package, MOVES)
    return package


def _add_client(source: Path, package: Path) -> None:
    package.mkdir()
    (package / "__init__.py").write_text('"""Parts of the Python client, for the command."""\n')
    for name in CLIENT_PARTS:
        shutil.copy2(source / name, package / name)


def move_imports(package: Path, moves: Moves) -> None:
    """Let all modules of a package name the moved modules where they are in the wheel."""
    for path in package.rglob("*.py"):
        path.write_text(with_moved_imports(path.read_text(), path.relative_to(package), moves))


def with_moved_imports(source: str, path: Path, moves: Moves = MOVES) -> str:
    """Return a module whose imports name the moved modules where they are in the wheel.

    Lines stay lines. Raise ValueError for a way to name a module that is not followed.
    """
    # Python counts columns in bytes.
    lines, nodes = source.encode().split(b"\n"), list(ast.walk(ast.parse(source)))
    # A text inside an f-string is only a part of a name: its beginning is computed.
    parts = {id(one) for node in nodes if isinstance(node, ast.JoinedStr) for one in node.values}
    for node in nodes:
        if id(node) not in parts and (fault := fault_of(node, moves)):
            raise ValueError(f"{path}, line {node.lineno}: {fault}")
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        if (moved := moved_part(node.module, moves)) is not None:
            line, start = lines[node.lineno - 1], node.col_offset + len("from ")
            end = start + len(moved.encode())
            lines[node.lineno - 1] = line[:start] + moves[moved].encode() + line[end:]
    return b"\n".join(lines).decode()


def fault_of(node: Any, moves: Moves) -> str | None:
    """Return why a module is named in a way that the wheel cannot follow."""
    if isinstance(node, ast.Import) and any(moved_part(one.name, moves) for one in node.names):
        return f"`{ast.unparse(node)}` cannot follow the module: write `from … import …`"
    text = node.value if isinstance(node, ast.Constant) else None
    if isinstance(text, str) and MODULE_AS_TEXT.fullmatch(text) and moved_part(text, moves):
        return f"the text {text!r} names a module: make it of `__name__` or `__package__`"
    return None


def moved_part(module: str | None, moves: Moves) -> str | None:
    """Return the part of a module's name that is another one in the wheel."""
    found = (one for one in moves if f"{module}.".startswith(f"{one}."))
    return next(found, None)
