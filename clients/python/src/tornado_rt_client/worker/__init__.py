"""A worker beside a server: it has the address and a token, and runs tasks of its kinds."""

NEEDED = ("cattrs", "msgspec", "orjson", "structlog", "websockets")

try:
    from tornado_rt_client.worker.worker import Worker
except ModuleNotFoundError as error:
    if error.name not in NEEDED:
        raise
    raise ModuleNotFoundError(
        f"a worker needs {error.name}: pip install 'tornado-rt-client[worker]'", name=error.name
    ) from None

__all__ = ["Worker"]
