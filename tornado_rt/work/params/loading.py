"""Loading modules of kinds, by name or by the path of a file."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import attrs

from tornado_rt.work import Kind, clean_line
from tornado_rt.work.params.reader import reader_of
from tornado_rt.work.params.shapes import TypeFault

MAX_REASON_LENGTH = 500


class KindError(Exception):
    """Modules of kinds cannot be used; `faults` has a line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


@attrs.frozen
class LoadedModule:
    """The kinds of a module; `faults` has a line for each reason why they cannot be used."""

    kinds: list[Kind] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)


def load_kinds(names: Sequence[str], settings: object = None) -> dict[str, Kind]:
    """Return the kinds in modules, by their names. Raise KindError."""
    modules = load_modules(names, settings).values()
    if faults := [fault for module in modules for fault in module.faults]:
        raise KindError(list(dict.fromkeys(faults)))
    return {kind.name: kind for module in modules for kind in module.kinds}


def load_modules(names: Sequence[str], settings: object = None) -> dict[str, LoadedModule]:
    """Load modules together; return each by its name, also one that cannot be used.

    A module is named as "pkg.mod", or by the path of its file. The current folder and that of a
    file become importable, behind all that is so already. With settings, `configure(settings)` of a
    module that has it is called.
    """
    modules = {name: _load_module(name, settings) for name in dict.fromkeys(names)}
    found: dict[str, tuple[str, Kind]] = {}
    for name, module in modules.items():
        for kind in module.kinds:
            other, known = found.setdefault(kind.name, (name, kind))
            if known is not kind:
                both = f"both {other} and {name} have a kind"
                fault = f"{f'{name} has two kinds' if other == name else both} {kind.name!r}"
                for one in {other, name}:
                    modules[one].faults.append(fault)
    return modules


def kinds_in(module: ModuleType) -> list[Kind]:
    """Return the kinds that a module names, each once."""
    # A proxy may raise when it is asked for its class.
    kinds = (one for one in vars(module).values() if issubclass(type(one), Kind))
    return list(dict.fromkeys(kinds))


def _load_module(name: str, settings: object) -> LoadedModule:
    try:
        module = _load(name, settings)
    except KindError as error:
        return LoadedModule(faults=error.faults)
    kinds = kinds_in(module)
    return LoadedModule(kinds, list(_faults_of(module, name, kinds)))


def _load(name: str, settings: object) -> ModuleType:
    make_importable(os.getcwd())
    is_path = name.endswith(".py") or os.sep in name
    if not is_path and "" in name.split("."):
        raise KindError([f"{name!r} names no module: give its name, or the path of its .py file"])
    module = _import(_module_of(Path(name).expanduser()) if is_path else name, name)
    if settings is not None and hasattr(module, "configure"):
        try:
            module.configure(settings)
        except BaseException as error:
            raise KindError([f"configure() of {name} failed: {text_of_error(error)}"]) from error
    return module


def make_importable(folder: str) -> None:
    """Let modules of a folder be imported, after those that can be already."""
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()


def _module_of(path: Path) -> str:
    """Return the name by which a file is imported. Raise KindError."""
    if path.suffix != ".py" or not path.is_file():
        raise KindError([f"there is no Python file {path}"])
    path = path.absolute()
    make_importable(str(path.parent))
    known = None if "." in path.stem else _file_of(path.stem)
    if known is None or not _is_same(known, path):
        taken = f": there is {known}" if known else ""
        raise KindError([f"{path} cannot be module {path.stem!r}{taken}; rename it"])
    return path.stem


def _file_of(name: str) -> str | None:
    """Return where a module is, or what it is."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        # For example `__main__`, which has none.
        return getattr(sys.modules.get(name), "__file__", None)
    return None if spec is None else spec.origin or "a package"


def _is_same(known: str, path: Path) -> bool:
    try:
        return os.path.samefile(known, path)
    except OSError:
        return False


def _import(module_name: str, name: str) -> ModuleType:
    cause: BaseException
    try:
        return importlib.import_module(module_name)
    except BaseException as error:
        # A module may end with anything, also with SystemExit.
        if _is_missing(error, module_name):
            raise KindError([f"there is no module {name!r}"]) from None
        reason, cause = _reason_of(error), error
    raise KindError([f"{name} cannot be imported: {one_line(reason)}"]) from cause


def _is_missing(error: BaseException, name: str) -> bool:
    """Say whether the module itself, or a package around it, is not there."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _reason_of(error: BaseException) -> str:
    """Return why an import ended, with the line of the module at which it did."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    for frame in traceback.extract_tb(error.__traceback__):
        if "importlib" not in frame.filename and frame.filename != __file__:
            return f"{frame.filename}, line {frame.lineno}: {text_of_error(error)}"
    return text_of_error(error)


def _faults_of(module: ModuleType, name: str, kinds: list[Kind]) -> Iterator[str]:
    """Yield what keeps the kinds of a module from being used."""
    if not kinds:
        yield f"{name} has no kind; it is {getattr(module, '__file__', None) or 'a folder'}"
    for kind in kinds:
        yield from kind_faults(kind, f"kind {kind.name!r} of {name}")


def kind_faults(kind: Kind, place: str) -> Iterator[str]:
    """Yield what keeps a kind from being used."""
    if kind.function is None:
        yield f"{place} has no handler"
    try:
        reader_of(kind.params_class)
    except TypeFault as error:
        yield f"{place}: {one_line(error)}"
    except Exception as error:
        reason = one_line(f"{kind.params_class.__name__}.{error}")
        yield f"{place}: {reason}"


def text_of_error(error: BaseException) -> str:
    """Return an error in one line, with its type."""
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def one_line(value: object) -> str:
    """Return any object as one line that can be told."""
    return " ".join(clean_line(value, MAX_REASON_LENGTH).split())
