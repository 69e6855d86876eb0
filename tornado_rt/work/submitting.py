"""Tasks that a handler submits: each once for its task, however many attempts that has."""

import hashlib
import heapq
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from tornado_rt.work.errors import NotSubmitted
from tornado_rt.work.kept import NotKept, as_kept
from tornado_rt.work.once import check_name
from tornado_rt.work.texts import joined
from tornado_rt.work.values import clean_line, clean_text

if TYPE_CHECKING:
    from tornado_rt.work.kind import Kind

# Of the text of a refusal, and of each of its errors [characters].
MOST_REASON, MOST_ERROR = 2000, 500
MOST_ERRORS = 20
# Of the id of a task, as JSON.
ID_BYTES = 32
DIGEST_LENGTH = 16


@attrs.frozen
class Submission:
    """A task that a handler submits: `task` is the body of `POST /api/tasks`, as JSON.

    The id of the task is kept as a result of `once` of this name.
    """

    name: str
    task: bytes


class Ordinals:
    """The numbers of equal things, from 1; one that came to nothing is given to the next."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._free: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, what: str) -> Iterator[int]:
        """Take the lowest free number for the block; it is free again when the block fails."""
        with self._lock:
            free = self._free.get(what)
            if free:
                number = heapq.heappop(free)
            else:
                number = self._last[what] = self._last.get(what, 0) + 1
        try:
            yield number
        except BaseException:
            with self._lock:
                heapq.heappush(self._free.setdefault(what, []), number)
            raise


@contextmanager
def submission(
    ordinals: Ordinals,
    kind: "Kind | str",
    params: Any,
    name: str | None,
    more: Mapping[str, Any],
) -> Iterator[Submission]:
    """Return a submission for the block that sends it.

    Without a `name` it is named by its kind, its parameters, and how many that are equal have been
    submitted before in this attempt. Raise NotSubmitted for what JSON or the kind has no room for,
    ValueError for a bad name.
    """
    kind_name, given = _read(kind, params)
    task = _json({"kind": kind_name, "params": given, **more})
    if name is not None:
        check_name(name)
        yield Submission(name, task)
        return
    equal = _json([kind_name, given], sort=True)
    digest = hashlib.sha256(equal).hexdigest()[:DIGEST_LENGTH]
    what = f"submit {clean_line(kind_name, 64)} {digest}"
    with ordinals.taken(what) as number:
        yield Submission(f"{what} {number}", task)


def refusal_of(error: NotSubmitted) -> dict[str, Any]:
    """Return a refusal as it is sent; its texts are within bounds."""
    fields: dict[str, Any] = {
        "status": error.status,
        "message": clean_text(error, MOST_REASON),
        "errors": [clean_line(one, MOST_ERROR) for one in error.errors[:MOST_ERRORS]],
    }
    return fields | ({} if error.retry_after is None else {"retry_after": error.retry_after})


def read_refusal(fields: Mapping[str, Any]) -> NotSubmitted:
    """Return a refusal that was sent."""
    return NotSubmitted(
        fields["message"], fields["status"], fields.get("errors", ()), fields.get("retry_after")
    )


def _read(kind: "Kind | str", params: Any) -> tuple[str, Any]:
    """Return the name of a kind, and its parameters as JSON has them. Raise NotSubmitted."""
    given = {} if params is None else params
    if isinstance(kind, str):
        return kind, given
    # Here: they need libraries that the API for authors does without.
    from tornado_rt.work.params.faults import ParamsFault
    from tornado_rt.work.params.reader import reader_of

    reader = reader_of(kind.params_class)
    try:
        if isinstance(given, kind.params_class):
            return kind.name, reader.write(given)
        reader.read(given)
    except ParamsFault as fault:
        raise NotSubmitted(joined(fault.faults), errors=fault.faults) from None
    return kind.name, given


def _json(value: Any, *, sort: bool = False) -> bytes:
    try:
        text = as_kept("the task", value, 0)
    except NotKept as fault:
        raise NotSubmitted(str(fault), errors=[str(fault)]) from None
    if not sort:
        return text
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()
