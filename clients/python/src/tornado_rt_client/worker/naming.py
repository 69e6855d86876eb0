"""Makes `tornado_rt.work` importable on a machine that has only the client.

Modules of kinds say `from tornado_rt.work import Kind`. Without the server that name stands for the
copy in this distribution, so that the same module runs inside a server and here.
"""

import importlib
import importlib.util
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

COPY = "tornado_rt_client._work"
# The fork server's module changes the process that imports it; that of spans imports OpenTelemetry,
# which need not be there. No module of kinds names them.
NOT_NAMED = (".fork_server", ".attempts.spans")
PACKAGE, NAME = "tornado_rt", "tornado_rt.work"


def name_work() -> None:
    """Let the name stand for the copy, unless a server is installed or this was called before."""
    if _is_importable():
        return
    copy = importlib.import_module(COPY)
    package = ModuleType(PACKAGE, "Stands for the server's package, which is not installed.")
    package.__path__ = []
    package.__spec__ = ModuleSpec(PACKAGE, None, is_package=True)
    sys.modules[PACKAGE], sys.modules[NAME] = package, copy
    setattr(package, NAME.rpartition(".")[2], copy)
    for _, name, _ in pkgutil.walk_packages(copy.__path__, f"{COPY}."):
        if not name.endswith(NOT_NAMED):
            sys.modules[NAME + name.removeprefix(COPY)] = importlib.import_module(name)


def _is_importable() -> bool:
    try:
        return importlib.util.find_spec(NAME) is not None
    except ModuleNotFoundError:
        return False


name_work()
