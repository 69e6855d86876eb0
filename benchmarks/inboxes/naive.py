"""The inbox as a first handler does it: count, insert, count again, and sort whatever matches.

    python -m benchmarks.inboxes.naive PORT FOLDER

It has the indexes that come to mind, and writes as durably as the product. It checks nobody: the
token is the user's id.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_rt.lifetime import run_until_stopped
from tornado_rt.stores import embedded_stores

DATABASE = "naive"
QUOTA = 1000
STOP_SECONDS = 10.0
TTL = timedelta(days=90)
NEWEST_FIRST = [("created_at", DESCENDING)]

sockets: dict[str, set["Socket"]] = {}


class Handler(RequestHandler):
    """Knows the collection and the user."""

    def initialize(self, notifications: AsyncCollection[dict[str, Any]]) -> None:
        self.notifications = notifications

    def prepare(self) -> None:
        self.user_id = user_of(self)

    def answer(self, content: Any, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps(content))

    async def count_unread(self, user_id: str) -> int:
        wanted = {"user_id": user_id, "status": "unread"}
        return await self.notifications.count_documents(wanted)

    async def tell_unread(self, user_id: str) -> None:
        unread = {"unread": await self.count_unread(user_id)}
        tell(user_id, {"type": "unread_count", "data": unread})


class All(Handler):
    """`GET`: list, newest first. `POST`: make one."""

    async def get(self) -> None:
        wanted: dict[str, Any] = {"user_id": self.user_id}
        if status := self.get_query_argument("status", None):
            wanted["status"] = status
        if before := self.get_query_argument("before", None):
            last = await self.notifications.find_one({"_id": ObjectId(before)})
            wanted["created_at"] = {"$lt": last["created_at"] if last else datetime.now(UTC)}
        limit = int(self.get_query_argument("limit", "20"))
        found = self.notifications.find(wanted).sort(NEWEST_FIRST).limit(limit)
        items = [shown(one) async for one in found]
        unread = await self.count_unread(self.user_id)
        following = items[-1]["id"] if len(items) == limit else None
        self.answer({"items": items, "next": following, "unread": unread})

    async def post(self) -> None:
        made = orjson.loads(self.request.body)
        owner = {"user_id": made["user_id"]}
        if await self.notifications.count_documents(owner) >= QUOTA:
            oldest = await self.notifications.find_one(owner, sort=[("created_at", ASCENDING)])
            await self.notifications.delete_one({"_id": oldest["_id"] if oldest else None})
        made |= {"status": "unread", "created_at": datetime.now(UTC)}
        await self.notifications.insert_one(made)
        message = {"type": "notification", "data": shown(made), "id": str(made["_id"])}
        tell(made["user_id"], message)
        await self.tell_unread(made["user_id"])
        self.answer(shown(made), 201)


class UnreadCount(Handler):
    """`GET`: how many are unread."""

    async def get(self) -> None:
        self.answer({"unread": await self.count_unread(self.user_id)})


class Read(Handler):
    """`POST`: mark one as read, or those in the body."""

    async def post(self, id_: str | None = None) -> None:
        ids = [id_] if id_ else orjson.loads(self.request.body)["ids"]
        await self.notifications.update_many(
            {"user_id": self.user_id, "_id": {"$in": list(map(ObjectId, ids))}},
            {"$set": {"status": "read", "read_at": datetime.now(UTC)}},
        )
        tell(self.user_id, {"type": "read", "data": {"ids": ids}})
        await self.tell_unread(self.user_id)
        self.answer({"changed": len(ids)})


class One(Handler):
    """`DELETE`: delete one."""

    async def delete(self, id_: str) -> None:
        await self.notifications.delete_one({"user_id": self.user_id, "_id": ObjectId(id_)})
        await self.tell_unread(self.user_id)
        self.set_status(204)


class Socket(WebSocketHandler):
    """My notifications; first those after `last_id`."""

    def initialize(self, notifications: AsyncCollection[dict[str, Any]]) -> None:
        self.notifications = notifications

    async def open(self, *_: str, **__: str) -> None:
        self.user_id = user_of(self)
        sockets.setdefault(self.user_id, set()).add(self)
        unread = {"user_id": self.user_id, "status": "unread"}
        count = await self.notifications.count_documents(unread)
        self.send({"type": "connected", "data": {"unread_count": count}})
        if last_id := self.get_query_argument("last_id", None):
            await self._resume(ObjectId(last_id))

    async def _resume(self, last_id: ObjectId) -> None:
        last = await self.notifications.find_one({"_id": last_id})
        after = {"$gt": last["created_at"] if last else datetime.now(UTC)}
        later = self.notifications.find({"user_id": self.user_id, "created_at": after})
        async for one in later.sort("created_at", ASCENDING).limit(500):
            self.send({"type": "notification", "data": shown(one), "id": str(one["_id"])})

    def send(self, message: dict[str, Any]) -> None:
        self.write_message(orjson.dumps(message).decode())

    def on_message(self, message: str | bytes) -> None:
        pass

    def on_close(self) -> None:
        sockets[self.user_id].discard(self)


def user_of(handler: RequestHandler) -> str:
    """Return who asks."""
    return handler.request.headers["Authorization"].removeprefix("Bearer ")


def tell(user_id: str, message: dict[str, Any]) -> None:
    """Send a message to the user's sockets."""
    for socket in sockets.get(user_id, ()):
        socket.send(message)


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return a notification as it goes over the wire."""
    id_ = str(document["_id"])
    return {"id": id_} | {name: value for name, value in document.items() if name != "_id"}


@asynccontextmanager
async def serving(port: int, folder: Path) -> AsyncIterator[None]:
    """Run the server, and a store in `folder`."""
    async with embedded_stores(folder, redis=False) as stores:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            stores.mongodb_url, journal=True, w="majority", tz_aware=True
        )
        notifications = client[DATABASE]["notifications"]
        await make_indexes(notifications)
        server = application(notifications).listen(port, "127.0.0.1")
        yield
        server.stop()
        await client.close()


async def make_indexes(notifications: AsyncCollection[dict[str, Any]]) -> None:
    """Make those that come to mind."""
    await notifications.create_index([("user_id", ASCENDING), *NEWEST_FIRST])
    await notifications.create_index([("user_id", ASCENDING), ("status", ASCENDING)])
    await notifications.create_index("created_at", expireAfterSeconds=int(TTL.total_seconds()))


def application(notifications: AsyncCollection[dict[str, Any]]) -> Application:
    """Return the handlers at the product's addresses."""
    handlers: list[tuple[str, type[RequestHandler]]] = [
        (r"/api/notifications", All),
        (r"/api/notifications/unread_count", UnreadCount),
        (r"/api/notifications/read", Read),
        (r"/api/notifications/([0-9a-f]{24})/read", Read),
        (r"/api/notifications/([0-9a-f]{24})", One),
        (r"/api/ws/notifications", Socket),
    ]
    known = {"notifications": notifications}
    return Application([(path, handler, known) for path, handler in handlers])


if __name__ == "__main__":
    run_until_stopped(serving(int(sys.argv[1]), Path(sys.argv[2])), STOP_SECONDS)
