"""Fan-out through Starlette and uvicorn (uvloop, httptools), as its documentation shows."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.fanouts import serve_publishing

sockets: set[WebSocket] = set()
queues: set[asyncio.Queue[str]] = set()


async def follow(socket: WebSocket) -> None:
    """Keep a WebSocket that gets everything."""
    await socket.accept()
    sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        sockets.discard(socket)


async def stream(request: Request) -> StreamingResponse:
    """Answer with an event stream that gets everything."""
    return StreamingResponse(_events(), media_type="text/event-stream")


async def _events() -> AsyncIterator[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield f"data: {await queue.get()}\n\n"
    finally:
        queues.discard(queue)


async def broadcast(text: str) -> None:
    """Send the message to all."""
    for socket in tuple(sockets):
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_text(text)
    for queue in queues:
        queue.put_nowait(text)


def application(publish_port: int) -> Starlette:
    """Make the application; its messages come on the port."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await serve_publishing(publish_port, broadcast)
        yield

    return Starlette(
        routes=[WebSocketRoute("/ws", follow), Route("/sse", stream)], lifespan=lifespan
    )


if __name__ == "__main__":
    served = application(int(sys.argv[2]))
    uvicorn.run(served, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
