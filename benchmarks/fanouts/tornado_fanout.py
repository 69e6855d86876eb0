"""Fan-out as a first Tornado handler does it: each message encoded and written for each peer."""

import asyncio
import json
import sys

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from benchmarks.fanouts import serve_publishing

sockets: set["Socket"] = set()
streams: set["Stream"] = set()


class Socket(WebSocketHandler):
    """A WebSocket that gets everything."""

    def open(self, *args: str, **kwargs: str) -> None:
        sockets.add(self)

    def on_message(self, message: str | bytes) -> None:
        pass

    def on_close(self) -> None:
        sockets.discard(self)


class Stream(RequestHandler):
    """An event stream that gets everything."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        await self.flush()
        streams.add(self)
        await asyncio.Event().wait()

    def on_connection_close(self) -> None:
        streams.discard(self)


async def broadcast(text: str) -> None:
    """Write the message to all."""
    message = json.loads(text)
    for socket in tuple(sockets):
        socket.write_message(json.dumps(message))
    for stream in tuple(streams):
        stream.write(f"data: {json.dumps(message)}\n\n")
        stream.flush()


async def main(port: int, publish_port: int) -> None:
    """Serve until killed."""
    Application([("/ws", Socket), ("/sse", Stream)]).listen(port, "127.0.0.1")
    await serve_publishing(publish_port, broadcast)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
