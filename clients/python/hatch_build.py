"""Puts the API for authors of work into the distributions; hatchling calls it.

Its source is `tornado_rt/work` of the repository, once. Here it is `tornado_rt_client._work`, and
its imports name it so.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "tornado_rt_client/_work"
MOVES = {"tornado_rt.work": "tornado_rt_client._work"}


class WorkHook(BuildHookInterface):
    """Copies the modules; a wheel that is built of a source distribution has them already."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lay the copy out in a folder of its own, and have the distribution take it from there."""
        self._made = tempfile.TemporaryDirectory()
        root = Path(self.root)
        # An editable install imports from the repository itself.
        if version == "editable" or (root / "src" / PACKAGE).is_dir():
            return
        copy = lay_out(root.parents[1], Path(self._made.name))
        inside = f"src/{PACKAGE}" if self.target_name == "sdist" else PACKAGE
        build_data["force_include"][str(copy)] = inside

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        self._made.cleanup()


def lay_out(repository: Path, folder: Path) -> Path:
    """Copy the modules, with imports that name the copy; return the package."""
    spec = importlib.util.spec_from_file_location("server_build", repository / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    server_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server_build)
    package = folder / "_work"
    shutil.copytree(repository / "tornado_rt" / "work", package, ignore=server_build.LEFT_OUT)
    server_build.move_imports(package, MOVES)
    return package
