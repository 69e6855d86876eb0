"""TLS of the server's own port."""

import ssl

from settings import Settings
from tornado_rt.secret import SecretError, read_named_file


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of the configured certificate; None without one.

    Raise SecretError when it cannot be used.
    """
    if not settings.server.tls_certificate:
        if settings.server.tls_key:
            raise SecretError("tls_key: needs tls_certificate: without it there is no TLS")
        return None
    read_named_file("tls_certificate", settings.server.tls_certificate)
    if settings.server.tls_key:
        read_named_file("tls_key", settings.server.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = "tls_key" if settings.server.tls_key else "tls_certificate"
    try:
        context.load_cert_chain(
            settings.server.tls_certificate,
            settings.server.tls_key or None,
            lambda: _refuse_password(name),
        )
    except ssl.SSLError as error:
        reason = error.reason or "it is not in PEM form"
        raise SecretError(f"{name}: no certificate chain with its key: {reason}") from None
    return context


def _refuse_password(name: str) -> str:
    raise SecretError(f"{name}: the key is encrypted: a server has nobody to ask for a password")
