"""Stores notifications for the users of a running server, as another of its processes would."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
from redis.asyncio import Redis

from services.notifications import NotificationService
from services.notifications.intents import Create
from tests.conftest import LoopThread
from tornado_rt.mongo import open_database
from tornado_rt.protocol import Message, channel
from tornado_rt.stores import running_addresses


@attrs.frozen
class RedisPublisher:
    """Publishes as a process that follows nothing."""

    redis: Redis

    async def publish(self, topic: str, message: Message) -> bool:
        await self.redis.publish(channel(topic), message.encode())
        return True


class InboxWriter:
    """Stores what no request may ask for, on the stores of a server's folder."""

    def __init__(self, data_dir: Path) -> None:
        self._thread = LoopThread()
        addresses = running_addresses(data_dir)
        self._redis = Redis.from_url(addresses.redis_url)
        self._database = open_database(addresses.mongodb_url, "tornado_rt")
        self._service: NotificationService = self._thread.run(self._open())

    async def _open(self) -> NotificationService:
        database = await self._database.__aenter__()
        service = NotificationService(database, RedisPublisher(self._redis))
        await service.prepare()
        return service

    def store(self, user_id: str, *, group: str = "", **fields: Any) -> None:
        """Store one; those of a group become a digest."""
        create = Create(
            user_id=user_id,
            fields={"type": "alert", "severity": "info", **fields},
            key=f"group:{group}" if group else None,
            window=timedelta(hours=1) if group else None,
        )
        self._thread.run(self._service._commit(create))

    def close(self) -> None:
        self._thread.run(self._close())
        self._thread.close()

    async def _close(self) -> None:
        await self._service.close()
        await self._database.__aexit__(None, None, None)
        await self._redis.aclose()
