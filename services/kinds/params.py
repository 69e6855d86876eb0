"""Reading a kind's parameters: JSON into its attrs class, strictly, and back."""

import functools
import itertools
from collections.abc import Container
from typing import Any

from services.kinds.faults import PLACE, ParamsFault, Wrong, refusal
from services.kinds.reading import ClassReader, Field, as_json, write_json
from tornado_rt.bounds import MAX_DEPTH

# Bound of parameters as JSON [B].
MOST_BYTES = 65536
# Definitions and descriptions hold parameters, or a schema, some levels down.
KEPT_DEPTH = MAX_DEPTH + 8


class ParamsReader:
    """Reads the parameters of an attrs class. Raise TypeError for a class that JSON has none for.

    Nothing is converted: an integer is no string, and true is no integer. An integer may stand for
    a number, ISO 8601 text for a time or a date, text for a Path or a UUID, and an Enum is named
    by its value.
    """

    def __init__(self, params_class: type[Any]) -> None:
        self._class = params_class
        self._fields = ClassReader.of(params_class)

    @property
    def fields(self) -> dict[str, Field]:
        """The fields that JSON is read into, by name."""
        return self._fields.fields

    def read(
        self,
        value: object,
        *,
        place: str = PLACE,
        common: Container[str] = (),
        most_bytes: int = MOST_BYTES,
        depth: int = MAX_DEPTH,
    ) -> tuple[Any, dict[str, Any]]:
        """Return an object of the class, and the parameters as JSON with every default filled in.

        `common`: the parameters whose faults are told at `PLACE`. `most_bytes`: 0 for any size.
        Raise ParamsFault.
        """
        plain = as_json(value, place, most_bytes, depth)
        try:
            params = self._fields.read(plain)
        except Wrong as error:
            raise refusal(error.faults, place, common) from None
        return params, self.write(params, place=place, most_bytes=most_bytes, depth=depth)

    def write(
        self,
        params: Any,
        *,
        place: str = PLACE,
        most_bytes: int = MOST_BYTES,
        depth: int = MAX_DEPTH,
    ) -> dict[str, Any]:
        """Return an object of the class as JSON. Raise ParamsFault for what JSON cannot hold."""
        written: dict[str, Any] = write_json(
            params, self._class, f"{place} with its defaults", most_bytes, depth
        )
        return written

    def default_faults(self) -> list[str]:
        """Return what the class has against its own defaults: each, and all of them together."""
        told = (one.told(PLACE) for one in self._fields.default_faults())
        faults = list(dict.fromkeys(itertools.chain.from_iterable(told)))
        if not faults and not any(one.required for one in self.fields.values()):
            try:
                self.read({}, most_bytes=0)
            except ParamsFault as fault:
                return fault.faults
        return faults


reader_of = functools.cache(ParamsReader)
