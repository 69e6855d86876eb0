"""Pack and unpack the part of a task that no script reads."""

from typing import Any

import attrs
import orjson

from services.queue.models import Job
from tornado_rt.work.attempts.tracing import trace_of

# In the order in which a job is packed; a label has none.
DEFAULTS = attrs.asdict(Job(label=""), recurse=False) | {"label": None}


def pack_job(job: Job) -> bytes:
    """Return a job as JSON, without what has its default."""
    return orjson.dumps(
        {
            name: value
            for name, default in DEFAULTS.items()
            if (value := getattr(job, name)) != default
        }
    )


def unpack_job(blob: bytes) -> Job:
    """Read a job; fields of a later version are passed over. Raise ValueError for what is none."""
    fields = orjson.loads(blob)
    if not isinstance(fields, dict) or not isinstance(fields.get("label"), str):
        raise ValueError("not a job")
    known: dict[str, Any] = fields
    if not fields.keys() <= DEFAULTS.keys():
        known = {name: fields[name] for name in fields if name in DEFAULTS}
    if not isinstance(known.get("params", {}), dict):
        raise ValueError("its parameters are no object")
    if "tags" in known:
        known["tags"] = tuple(known["tags"]) if isinstance(known["tags"], list) else ()
    if "trace" in known:
        known["trace"] = trace_of(known["trace"])
    return Job(**known)


def readable_job(blob: bytes) -> Job:
    """Read a job; one that cannot be read has no label and no parameters."""
    try:
        return unpack_job(blob)
    except ValueError:
        return Job(label="")
