"""Reading a kind's parameters: JSON into its attrs class, strictly, and back."""

import functools
import itertools
from collections.abc import Container
from typing import Any

from tornado_rt.work.kept import MAX_DEPTH
from tornado_rt.work.params.faults import PLACE, ParamsFault, Wrong, json_word, refusal, short
from tornado_rt.work.params.reading import ClassReader, Field, as_json, write_json

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

    def read_stored(self, stored: dict[str, Any], made: Any) -> Any:
        """Return what a worker reads of the parameters that `read` has stored for `made`.

        Raise ParamsFault when it cannot read them, or reads others.
        """
        try:
            again, written = self.read(stored, most_bytes=0)
        except ParamsFault as fault:
            told = [f"{one}, when a worker reads what is stored" for one in fault.faults]
            raise ParamsFault(told) from None
        # A class may not compare its objects, and a set may be written in another order.
        if again == made or written == stored:
            return again
        raise ParamsFault(
            [
                f"{PLACE}.{name} is stored as {short(json_word(stored[name]))}, and a worker reads"
                f" that as {short(json_word(written[name]))}: its converter must leave alone what "
                "it has made"
                for name in stored
                if written[name] != stored[name]
            ]
        )

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
