"""Kinds of work: loading their modules, reading their parameters, and finding those of others."""

from services.kinds.known import KnownKind, entry_of, has_label_everywhere
from services.kinds.registry import RESERVED, KindRegistry, KindUnknown
from services.kinds.validation import BadSchema, SchemaReader
from tornado_rt.work.params.faults import ParamsFault
from tornado_rt.work.params.loading import KindError, load_kinds
from tornado_rt.work.params.reader import KEPT_DEPTH, MOST_BYTES, ParamsReader, reader_of
from tornado_rt.work.params.schema import NotDescribed, describe, made_anew, schema_of

__all__ = [
    "KEPT_DEPTH",
    "MOST_BYTES",
    "RESERVED",
    "BadSchema",
    "KindError",
    "KindRegistry",
    "KindUnknown",
    "KnownKind",
    "NotDescribed",
    "ParamsFault",
    "ParamsReader",
    "SchemaReader",
    "describe",
    "entry_of",
    "has_label_everywhere",
    "load_kinds",
    "made_anew",
    "reader_of",
    "schema_of",
]
