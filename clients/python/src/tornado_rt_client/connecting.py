"""The use of httpx by both transports."""

from typing import Any

import httpx

from tornado_rt_client.errors import ConnectionLost

# A connection has this long to open [s].
CONNECT_SECONDS = 10.0
# The server answers within 10 s, or says that it does not.
ANSWER_SECONDS = 30.0
# Errors before a request has left.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
TIMEOUT = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=None)
# Each stream has a connection of its own: a bound of them would let requests wait for streams.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


def options(url: str, more: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a client of httpx. Raise ValueError for a wrong address."""
    if httpx.URL(url).scheme not in ("http", "https"):
        raise ValueError(f"the address must begin with http:// or https://: {url}")
    return {"base_url": url, "timeout": TIMEOUT, "limits": LIMITS, **more}


def opening_timeout(seconds: float) -> httpx.Timeout:
    """Return the bounds of opening a stream, within these seconds."""
    return httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))


def unbind(response: httpx.Response) -> None:
    """Let the body of a stream take its time: the transport watches it from here on.

    httpx reads the timeout anew for the body. If it did not, a stream that is silent for long would
    be opened again for nothing.
    """
    timeout = response.request.extensions.get("timeout")
    if isinstance(timeout, dict):
        timeout["read"] = None


def lost(error: httpx.TransportError) -> ConnectionLost:
    """Return our error for one of httpx."""
    message = str(error) or type(error).__name__
    return ConnectionLost(message, was_sent=not isinstance(error, NOT_SENT))
