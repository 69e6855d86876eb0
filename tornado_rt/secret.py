"""Secrets: the configured ones, or those that the server made for itself."""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from settings import Settings
from tornado_rt.data_folder import EMAIL_SECRET_FILE, SECRET_FILE, BadFolder, open_data_folder

log = structlog.get_logger(__name__)

T = TypeVar("T")

SECRET_BYTES = 32
MOST_BYTES = 65536
OTHERS = stat.S_IRWXG | stat.S_IRWXO
NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class SecretError(Exception):
    """A secret, key or certificate cannot be used; the message names the setting or the file."""


def load_secret(settings: Settings) -> tuple[str, bool]:
    """Return the HMAC secret, and whether it is one that the server made for itself.

    Empty when tokens are checked with public keys. Raise SecretError for a weak one.
    """
    if settings.auth.jwt_public_key or settings.auth.jwt_jwks_url:
        return "", False
    if not settings.auth.jwt_secret:
        return _own_secret(settings.server.data_dir / SECRET_FILE), True
    check_secret(settings.auth.jwt_secret, "jwt_secret")
    return settings.auth.jwt_secret, False


def load_email_secret(settings: Settings) -> str:
    """Return the secret that links in mail are signed with. Raise SecretError for a weak one."""
    if not settings.email.email_secret:
        return _own_secret(settings.server.data_dir / EMAIL_SECRET_FILE)
    check_secret(settings.email.email_secret, "email_secret")
    return settings.email.email_secret


def read_named_file(setting: str, path: str, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what a file holds that a setting names. Raise SecretError when it cannot be read."""
    try:
        return _read(Path(path), most_bytes)
    except (OSError, ValueError) as error:
        raise SecretError(f"{setting}: {path}: {_reason(error)}") from None


def own_file(path: Path, make: Callable[[], str], read: Callable[[str], T], advice: str) -> T:
    """Return what a private file in the data folder holds, made if it is not there.

    `read`: takes its text, and raises SecretError for a bad one. `advice`: what to do about such a
    file. Raise SecretError, BadFolder.
    """
    open_data_folder(path.parent)
    try:
        if not path.exists():
            _make(path, make())
    except OSError as error:
        raise BadFolder(f"data_dir: {path}: {_reason(error)}") from None
    try:
        content = read(_read(path, MOST_BYTES).decode())
    except UnicodeDecodeError:
        raise SecretError(f"{path}: is not UTF-8: {advice}") from None
    except SecretError as error:
        raise SecretError(f"{error}: {advice}") from None
    except (OSError, ValueError) as error:
        raise SecretError(f"{path}: {_reason(error)}: {advice}") from None
    _keep_private(path)
    return content


def _own_secret(path: Path) -> str:
    def read(text: str) -> str:
        check_secret(text, str(path))
        return _without_line_break(text)

    advice = "write 32 random bytes or more into it, or delete it: a new one is made"
    return own_file(path, lambda: secrets.token_urlsafe(48), read, advice)


def _make(path: Path, content: str) -> None:
    """Put a new secret there, whole or not at all; one that another process made first stays."""
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            _link(made, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
    _sync_folder(path.parent)


def _link(made: str, path: Path) -> None:
    try:
        os.link(made, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # A file system without links: whole too, but the last one wins.
        os.rename(made, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems cannot.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, most_bytes: int) -> bytes:
    # A pipe that nobody writes to must not hold up the start.
    with open(path, "rb", opener=_open_at_once) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes} bytes")
    return content


def _open_at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError("is not a regular file")


def check_secret(secret: str, name: str) -> None:
    """Raise SecretError for a weak one."""
    try:
        kept = _without_line_break(secret).encode()
    except UnicodeEncodeError:
        raise SecretError(f"{name}: is not UTF-8") from None
    if len(kept) < SECRET_BYTES:
        raise SecretError(f"{name}: must have {SECRET_BYTES} bytes or more")
    if not kept.strip() or len(set(kept)) == 1:
        raise SecretError(f"{name}: must not be blank or one byte repeated")


def _without_line_break(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _keep_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & OTHERS:
        return
    try:
        path.chmod(mode & ~OTHERS)
        done = "now its owner alone may; make a new one if others may have read it"
    except OSError as error:
        done = f"this cannot be changed: {_reason(error)}"
    log.warning("secret_was_open", file=str(path), mode=f"{mode:04o}", advice=done)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error)).lower()
