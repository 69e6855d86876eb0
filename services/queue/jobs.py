"""Pack and unpack the part of a task that no script reads."""

from typing import Any

import attrs
import orjson

from services.queue.models import Job

FIELDS = tuple(attrs.fields_dict(Job))
DEFAULTS = attrs.asdict(Job(label=""), recurse=False) | {"label": None}


def pack_job(job: Job) -> bytes:
    """Return a job as JSON, without what has its default."""
    kept = {name: getattr(job, name) for name in FIELDS}
    return orjson.dumps({name: value for name, value in kept.items() if value != DEFAULTS[name]})


def unpack_job(blob: bytes) -> Job:
    """Read a job; fields of a later version are passed over. Raise ValueError for what is none."""
    fields = orjson.loads(blob)
    if not isinstance(fields, dict) or not isinstance(fields.get("label"), str):
        raise ValueError("not a job")
    known: dict[str, Any] = {name: fields[name] for name in FIELDS if name in fields}
    if not isinstance(known.get("params", {}), dict):
        raise ValueError("its parameters are no object")
    tags = known.get("tags", ())
    known["tags"] = tuple(tags) if isinstance(tags, list) else ()
    return Job(**known)


def readable_job(blob: bytes) -> Job:
    """Read a job; one that cannot be read has no label and no parameters."""
    try:
        return unpack_job(blob)
    except ValueError:
        return Job(label="")
