"""The parts that a server and a worker process have in common."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import attrs
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from tornado.ioloop import IOLoop

from services.estimates import Estimates
from services.kinds import KindRegistry
from services.progress import PlanBook
from services.queue import QueueService, key_prefix
from services.system_settings import SystemSettings
from settings import Settings, metrics_folder
from tornado_rt import tracing
from tornado_rt.backplane import Backplane, BackplaneDown
from tornado_rt.census import Census
from tornado_rt.descriptors import find_limit, raise_limit, streams_share
from tornado_rt.devices import Devices
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.hub import Hub
from tornado_rt.jobs import Jobs
from tornado_rt.limits import Limits
from tornado_rt.metrics import Metrics
from tornado_rt.presence import STATS, Presence
from tornado_rt.redis import SHARED_HOME, open_redis
from tornado_rt.work import Kind
from tornado_rt.work.attempts.fork_guard import loop_guarded

T = TypeVar("T")

# A start tries again for this long while Redis is slow, and rests this long between.
START_SECONDS = 10.0
START_RETRY_SECONDS = 0.1


@attrs.frozen
class Core:
    """The parts that a server and a worker process have in common.

    `redis` has the queue and all messages, `shared` the registry of connections and the tickets: in
    a cluster two slots, and so two nodes.

    It is wide because each part that both kinds of processes have is a field.
    """

    settings: Settings
    redis: Redis
    shared: Redis
    queue: QueueService
    estimates: Estimates
    kinds: KindRegistry
    plans: PlanBook
    limits: Limits
    heartbeats: Heartbeats
    metrics: Metrics
    hub: Hub
    backplane: Backplane
    presence: Presence
    devices: Devices
    jobs: Jobs


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return what the call returns; repeat it for 10 s while Redis is too slow for it.

    A start has time: on a busy machine a connection takes longer than a request may wait. Raise its
    last error, any other at once.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await call()
        except (RedisTimeoutError, BackplaneDown):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(START_RETRY_SECONDS)


async def open_core(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    redis_url: str,
    kinds: Mapping[str, Kind],
    *,
    owns_process: bool = True,
) -> Core:
    """Open it for a process that has these kinds. Raise TracesUnavailable.

    `owns_process`: the process and its loop serve nobody else. Then all that the loop holds is kept
    from forked children, and the limit of descriptors is raised.
    """
    await stack.enter_async_context(tracing.opened(settings))
    if owns_process:
        above = IOLoop.current()
        # A socket whose request is being served is in Tornado's table only.
        stack.enter_context(loop_guarded(lambda: getattr(above, "handlers", ())))
    descriptors = raise_limit() if owns_process else find_limit()
    home = key_prefix(settings.queue.queue_name)
    redis = await stack.enter_async_context(open_redis(redis_url, home, settings.stores))
    shared = await stack.enter_async_context(open_redis(redis_url, SHARED_HOME, settings.stores))
    metrics, heartbeats = Metrics(metrics_folder()), Heartbeats()
    limits = _limits(settings, descriptors)
    census, backplane = Census(limits, metrics), Backplane(redis, metrics)
    presence = Presence(shared, census)
    stack.push_async_callback(presence.close)
    devices = Devices(
        shared,
        presence.process,
        STATS,
        most=settings.connections.devices_kept_per_user,
        seconds=settings.connections.devices_kept_seconds,
    )
    hub = Hub(census, heartbeats, backplane, presence, devices)
    await patiently(lambda: stack.enter_async_context(backplane.running(hub)))
    queue, jobs = queue_of(redis, settings), Jobs()
    stack.push_async_callback(queue.close)
    estimates = Estimates(queue)
    stack.push_async_callback(estimates.close)
    stack.push_async_callback(jobs.close)
    return Core(
        settings,
        redis,
        shared,
        queue,
        estimates,
        KindRegistry(kinds),
        PlanBook(queue.read_plans),
        limits,
        heartbeats,
        metrics,
        hub,
        backplane,
        presence,
        devices,
        jobs,
    )


def queue_of(redis: Redis, settings: Settings) -> QueueService:
    """Return the queue of the settings."""
    return QueueService(
        redis,
        name=settings.queue.queue_name,
        user_limit=settings.queue.queue_user_limit,
        global_limit=settings.queue.queue_global_limit,
        max_waiting_per_user=settings.queue.queue_max_waiting_per_user,
        upkeep_seconds=settings.queue.queue_upkeep_seconds,
        visibility_seconds=settings.queue.queue_visibility_seconds,
        retention_seconds=settings.queue.queue_retention_seconds,
        order=settings.queue.queue_order,
        max_events=settings.tasks.task_events,
        idempotency_seconds=settings.queue.queue_idempotency_seconds,
        idempotency_keys_per_user=settings.queue.queue_idempotency_keys_per_user,
        kept_per_user=settings.queue.queue_kept_per_user,
        history_sorts=settings.queue.queue_history_sorts,
    )


def _limits(settings: Settings, descriptors: int) -> Limits:
    return Limits(
        SystemSettings.of(settings),
        per_address=settings.connections.max_connections_per_address,
        total=settings.connections.max_connections or streams_share(descriptors),
        pending_bytes=settings.streams.max_pending_bytes,
        messages_per_second=settings.streams.max_messages_per_second,
        peer_timeout=settings.connections.peer_timeout_seconds,
    )
