"""One module for each server that is compared, and what drives and loads them."""

import asyncio
from collections.abc import Awaitable, Callable


async def serve_publishing(port: int, broadcast: Callable[[str], Awaitable[None]]) -> None:
    """Broadcast each line that comes on a loopback port, and answer it with an empty one.

    It is how the compared servers get their messages: cheaper for them than a request.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await broadcast(line.decode().rstrip("\n"))
            writer.write(b"\n")
        writer.close()

    await asyncio.start_server(converse, "127.0.0.1", port)
