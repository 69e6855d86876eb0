"""Data versions: what is stored is of this version, is brought to it, or is refused at a start."""

from services.migrations.mongodb import prepare_mongodb, read_mongodb_version
from services.migrations.redis import data_fault, has_queue, prepare_redis, read_redis_version
from services.migrations.version import DATA_VERSION, DataRefused

__all__ = [
    "DATA_VERSION",
    "DataRefused",
    "data_fault",
    "has_queue",
    "prepare_mongodb",
    "prepare_redis",
    "read_mongodb_version",
    "read_redis_version",
]
