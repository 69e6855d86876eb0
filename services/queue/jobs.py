"""What no script reads of a task, as one blob: packed and unpacked here alone."""

from typing import Any

import attrs
import orjson

from services.queue.models import Job

FIELDS = attrs.fields_dict(Job)


def pack_job(job: Job) -> bytes:
    """Return a job as JSON, without what has its default."""
    fields = attrs.asdict(job, recurse=False)
    kept = {name: value for name, value in fields.items() if value != FIELDS[name].default}
    return orjson.dumps(kept)


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
