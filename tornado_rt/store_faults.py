"""What an error of a store means, in words."""

import re

from pymongo.errors import AutoReconnect, OperationFailure
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

FULL = "Redis is full: it has reached its memory limit; try again when there is room"


def is_full(error: BaseException | None) -> bool:
    """Say whether Redis refused to store more; a script has the reason in its error's text."""
    return isinstance(error, ResponseError) and "command not allowed when used memory" in str(error)


def redis_fault(error: Exception) -> str:
    """Say what keeps Redis from taking a write."""
    if is_full(error):
        return FULL
    if isinstance(error, AuthenticationError) or "NOPERM" in str(error):
        return f"Redis refuses our credentials: {error}"
    if isinstance(error, (ConnectionError, RedisTimeoutError)) or not isinstance(error, RedisError):
        return "Redis does not answer"
    return f"Redis does not take writes: {error}"


def mongodb_fault(error: Exception) -> str:
    """Say what keeps MongoDB from taking a write."""
    if isinstance(error, OperationFailure) and error.code in (13, 18):
        return "MongoDB refuses our credentials"
    # Without a primary there is nobody who takes writes, but that looks like nobody at all.
    if isinstance(error, OperationFailure):
        return f"MongoDB does not take writes: {str(error).partition(', full error')[0]}"
    if isinstance(error, AutoReconnect) and "not primary" in str(error):
        return "MongoDB does not take writes: it is no primary"
    return "MongoDB does not answer"


def without_secrets(text: str, url: str) -> str:
    """Return what a library says of an URL, or less when it repeats its credentials."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    parts = [part for part in re.split("[:/?#@]", credentials) if part]
    if any(part in text for part in parts):
        return "it cannot be read; in a user and a password all but letters and digits is %-encoded"
    return text
