"""Follows a task with `websockets`: it comes back by itself, and says what it saw last."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

NAMES = {"message": "message", "at": "updated_at"}


async def follow(url: str, token: str, task_id: str) -> None:
    address = f"{url.replace('http', 'ws')}/api/ws"
    data = {"topic": f"task:{task_id}"}
    async for socket in connect(address, additional_headers={"Authorization": f"Bearer {token}"}):
        try:
            await socket.send(json.dumps({"type": "subscribe", "data": data}))
            async for text in socket:
                frame = json.loads(text)
                if "id" in frame:
                    data["last_id"] = frame["id"]
                told = {name: frame["data"].get(of) for name, of in NAMES.items()}
                print(json.dumps({"type": frame["type"], **told}), flush=True)
                if frame["type"] == "finished":
                    print(json.dumps({"type": "closed"}), flush=True)
                    return
        except ConnectionClosed:
            continue


asyncio.run(follow(*sys.argv[1:]))
