"""Fan-out through `websockets.broadcast`."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.fanouts import serve_publishing

sockets: set[ServerConnection] = set()


async def follow(socket: ServerConnection) -> None:
    """Keep a WebSocket that gets everything."""
    sockets.add(socket)
    try:
        await socket.wait_closed()
    finally:
        sockets.discard(socket)


async def publish(text: str) -> None:
    """Send the message to all."""
    broadcast(sockets, text)


async def main(port: int, publish_port: int) -> None:
    """Serve until killed."""
    async with serve(follow, "127.0.0.1", port, compression=None):
        await serve_publishing(publish_port, publish)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
