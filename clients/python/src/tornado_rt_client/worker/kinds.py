"""The kinds of a worker: objects, modules, or files of an author."""

from collections.abc import Iterable
from pathlib import Path

import attrs

# First, for the modules of authors name it.
from tornado_rt_client.worker import naming as naming
from tornado_rt_client.worker.parts import (
    Carry,
    Kind,
    KindError,
    KindTarget,
    kind_faults,
    load_kinds,
)

MAIN = "__main__"


@attrs.frozen
class KindLoader:
    """Imports a kind in its task's process; `module` is that of its handler."""

    names: tuple[str, ...]
    module: str

    def __call__(self, name: str) -> Kind:
        """Import it. Raise KindError; KeyError when it is not there."""
        found = load_kinds(self.names)
        return found[name] if name in found else load_kinds([self.module])[name]


@attrs.frozen
class Work:
    """The work of a worker: `kinds` by their names; `names` are the modules that were named."""

    kinds: dict[str, Kind]
    names: tuple[str, ...]

    @classmethod
    def of(cls, given: Iterable[Kind | str | Path]) -> "Work":
        """Load what is given: kinds, names of modules, paths of files. Raise KindError."""
        given = list(given)
        names = tuple(str(one) for one in given if isinstance(one, str | Path))
        kinds = load_kinds(names)
        for one in given:
            if isinstance(one, str | Path):
                continue
            if not isinstance(one, Kind):
                raise KindError([f"{one!r:.100} is no Kind, and no name of a module"])
            if faults := list(kind_faults(one, f"kind {one.name!r}")):
                raise KindError(faults)
            if kinds.setdefault(one.name, one) is not one:
                raise KindError([f"two kinds have the name {one.name!r}"])
        if not kinds:
            raise KindError(["a worker needs a kind"])
        return cls(kinds, names)

    def targets(
        self, *, timeout_seconds: float, result_bytes: int, processes: bool, carry: Carry
    ) -> dict[str, KindTarget]:
        """Return what runs each kind; `carry` takes traces into its processes.

        Raise KindError when a process cannot import it.
        """
        return {
            name: KindTarget(
                kind,
                timeout_seconds=timeout_seconds,
                result_bytes=result_bytes,
                load=self._loader(kind) if processes else None,
                carry=carry,
            )
            for name, kind in self.kinds.items()
        }

    def _loader(self, kind: Kind) -> KindLoader:
        module = str(getattr(kind.function, "__module__", MAIN))
        if module == MAIN:
            raise KindError(
                [
                    f"kind {kind.name!r} stands in the program itself: put it in a module of its"
                    " own, which the processes of its tasks can import"
                ]
            )
        return KindLoader(self.names, module)
