"""The composition root: opens every part in order, and closes them in reverse.

It is long because it is the composition root: the one module that knows all the parts.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
from tornado.web import Application

from handlers.routes import PROBLEMS, page_routes, routes, under, worker_routes
from handlers.topics import FeedFinder
from services.admin import AdminLog, BulkWork, FindAgain, Fleet, Overview, Series
from services.analysis import analysis_kind
from services.children import Children
from services.deliveries import (
    Deliveries,
    Uncounted,
)
from services.deliveries.running import delivery_targets
from services.email import MailLinks
from services.gauges import QueueGauges
from services.kinds import load_kinds
from services.migrations import (
    data_fault,
    has_queue,
    prepare_mongodb,
    prepare_redis,
    read_mongodb_version,
)
from services.notifications import NotificationService
from services.notifications.announcing import Announcer
from services.operating import Operator
from services.outbox import find_entry, read_lag
from services.push import load_vapid_key
from services.queue import QueueService, key_prefix
from services.remote import RemoteBounds, RemoteWork
from services.schedules import (
    SCHEDULES,
    KindSchedules,
    ScheduleRunner,
    ScheduleService,
    schedules_of,
)
from services.stalled import StalledWatch
from services.submissions import TaskBounds
from services.system_settings import SettingsFollower, SystemSettings, SystemSettingsService
from services.tasks import TaskService
from services.topics import TopicService
from services.why import Gatherer, WhyService
from services.worker import Roster, Target, Worker, load_targets, warn_of_idle_places
from settings import Settings
from tornado_rt import __version__
from tornado_rt.address import bind_address, check_address
from tornado_rt.auth import TokenVerifier
from tornado_rt.core import Core, open_core, patiently, queue_of
from tornado_rt.demo import demo_refusal
from tornado_rt.descriptors import clients_share, raise_limit
from tornado_rt.gathering import Gathering
from tornado_rt.http1 import RequestBounds
from tornado_rt.limits import AcceptBounds, RateLimiter
from tornado_rt.listener import Listener
from tornado_rt.locales import Languages
from tornado_rt.log_watch import LogWatch
from tornado_rt.logs import access_log
from tornado_rt.metrics import Metrics
from tornado_rt.mongo import open_database
from tornado_rt.protocol import APP, ASKED, CONTROL, TASKS, WORKERS
from tornado_rt.readiness import Readiness
from tornado_rt.redis import MAINTENANCE_SECONDS, open_redis
from tornado_rt.roll import Roll
from tornado_rt.routing import RoutedApplication
from tornado_rt.secret import load_email_secret, load_secret
from tornado_rt.stores import StoreAddresses, StoreError, open_stores, running_addresses
from tornado_rt.telling import (
    Absent,
    Telling,
    Texts,
    deliveries_of,
    open_absent,
    open_outbox,
    open_telling,
    serve_absent,
)
from tornado_rt.tickets import Tickets
from tornado_rt.tls import server_context
from tornado_rt.under_way import UnderWay
from tornado_rt.web import Authenticate, NotFoundHandler
from tornado_rt.work import Kind
from tornado_rt.work.attempts.fork_guard import ports_guarded

log = structlog.get_logger(__name__)

# Grace of deliveries that are under way at a stop [s]; the next start repeats them.
DELIVERY_GRACE_SECONDS = 2.0
WORKER_PORT = "worker_port"
# Interval at which notifications that came are compared with those that are stored [s].
USER_CHECK_SECONDS = 2.0


@attrs.frozen
class _Work:
    """The kinds of a process by name, what runs them, and the schedules in their code."""

    kinds: Mapping[str, Kind]
    targets: Mapping[str, Target]
    schedules: Sequence[KindSchedules]


@attrs.frozen
class Services:
    """The services that a server calls for its clients, and an application for itself."""

    notifications: NotificationService
    tasks: TaskService
    topics: TopicService


@attrs.frozen
class _Board:
    """The operator's side."""

    log: AdminLog
    series: Series
    overview: Overview
    fleet: Fleet
    bulk: BulkWork
    roll: Roll

    def routes(self) -> dict[str, dict[str, Any]]:
        """Return what `initialize` of its handlers gets."""
        return {name: {name: part} for name, part in attrs.asdict(self, recurse=False).items()}


@attrs.frozen
class RunningServer:
    """A server that listens."""

    url: str
    core: Core


@attrs.frozen
class OpenedServer:
    """A server but for its sockets: `application` answers what comes by any.

    Stop `remote` before connections end, so that nobody is sent a task by them.
    """

    url: str
    core: Core
    application: Application
    services: Services
    remote: RemoteWork


@contextlib.asynccontextmanager
async def running_server(
    settings: Settings, process: int | None = None
) -> AsyncIterator[RunningServer]:
    """Run a server until the block ends; `process` is its number when others share its port.

    Raise StoreError, SecretError, HandlerError, KindError or OSError when it cannot start.
    """
    async with contextlib.AsyncExitStack() as stack:
        tls, sockets = server_context(settings), list[socket.socket]()
        if process is None:
            # Before stores start. Where processes share the port, the one that starts them knows.
            check_address(settings.server.host, settings.server.port)

        def listen() -> str:
            sockets.extend(stack.enter_context(_bound(settings, shared=process is not None)))
            return url_of(settings, sockets[0].getsockname()[1])

        opened = await open_server(stack, settings, listen, process=process)
        core = opened.core
        await stack.enter_async_context(
            _serving(opened.application, settings, sockets, tls, core.metrics)
        )
        # First of all, so that nobody is sent a task whose connection is about to end.
        stack.callback(opened.remote.stop)
        stack.enter_context(_told("server", url=opened.url, process=process or 1))
        yield RunningServer(opened.url, core)
    log.info("server_stopped")


async def open_server(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    find_url: Callable[[], str],
    *,
    process: int | None = None,
    authenticate: Authenticate | None = None,
    owns_process: bool = True,
) -> OpenedServer:
    """Open all of a server but its sockets.

    `find_url` returns where it is reached; it is called once the data are ready. `authenticate` is
    an application's own sign-in, `owns_process` as in `open_core`. Raise as `running_server` does.
    """
    secret, _ = load_secret(settings)
    vapid_key, email_secret = load_vapid_key(settings), load_email_secret(settings)
    verifier = TokenVerifier(settings, secret)
    stack.push_async_callback(verifier.close)
    # The provider of the keys, if there is one, is asked while the rest starts.
    verifier.faults()
    announcer, texts = Announcer(), Texts.of(settings)
    own = _load_work(settings, announcer.kind)
    await _check_urls(settings)
    addresses = await stack.enter_async_context(open_stores(settings))
    await _prepare_data(settings, addresses)
    core = await open_core(
        stack, settings, addresses.redis_url, own.kinds, owns_process=owns_process
    )
    database = await stack.enter_async_context(
        open_database(addresses.mongodb_url, settings.stores.mongodb_database, settings.stores)
    )
    telling = await open_telling(stack, core, database, addresses.redis_url, texts, secret)
    announcer.notifications = notifications = telling.notifications
    system_settings = await _open_system_settings(core, database)
    if addresses.watch is not None:
        core.jobs.keep(addresses.watch.run, "folder-watch")
    watch = addresses.watch
    own_url = find_url()
    links = MailLinks(settings.server.public_url or own_url, email_secret)
    absent = await open_absent(stack, settings, database, telling, vapid_key, links)
    serve_absent(core, telling, absent, texts.types)
    # It comes behind the outlets: it owes its notifications of ends to all of them.
    open_outbox(stack, core, telling, process)
    topics = TopicService(
        core.shared,
        kept=settings.streams.topic_history,
        seconds=settings.streams.topic_history_seconds,
        message_bytes=settings.streams.topic_message_bytes,
    )
    stack.push_async_callback(topics.close)
    services = Services(notifications, _tasks(core), topics)
    remote = await stack.enter_async_context(_remote_work(core))
    board = await _open_board(core, remote)
    application = _application(
        core,
        database,
        telling,
        absent,
        services,
        remote,
        board,
        system_settings,
        secret,
        verifier,
        lambda: None if watch is None else watch.fault,
        _gauges(core),
        authenticate,
        texts.languages,
    )
    await _register(core, own)
    if settings.workers.worker_concurrency:
        await stack.enter_async_context(_worker(core, own.targets))
    if settings.callbacks.delivery_concurrency:
        await stack.enter_async_context(_deliverer(core, telling.deliveries))
    _watch_logs(core, notifications, topics)
    core.heartbeats.start()
    stack.callback(core.heartbeats.stop)
    stack.push_async_callback(core.presence.leave)
    stack.push_async_callback(core.devices.flush)
    stack.push_async_callback(core.hub.drain, settings.server.drain_seconds)
    return OpenedServer(own_url, core, application, services, remote)


@contextlib.asynccontextmanager
async def running_worker(settings: Settings) -> AsyncIterator[Core]:
    """Run a worker on the stores of a running server, or on shared ones, until the block ends.

    Raise StoreError, SecretError, HandlerError, KindError or OSError when it cannot start.
    """
    own = _load_work(settings)
    watched = settings.changed(port=settings.workers.worker_port)
    tls = server_context(settings) if settings.workers.worker_port else None
    if settings.workers.worker_port:
        check_address(settings.server.host, settings.workers.worker_port, WORKER_PORT)
    async with contextlib.AsyncExitStack() as stack:
        redis_url = _redis_url(settings)
        await _prepare_queue(settings, redis_url)
        core = await open_core(stack, settings, redis_url, own.kinds)
        listens = _bound(watched, setting=WORKER_PORT) if settings.workers.worker_port else None
        sockets = [] if listens is None else stack.enter_context(listens)
        await _register(core, own, is_server=False)
        await stack.enter_async_context(_worker(core, own.targets))
        if sockets:
            await stack.enter_async_context(
                _serving(_application_of_worker(core), watched, sockets, tls, core.metrics)
            )
        stack.enter_context(
            _told(
                "worker", kinds=sorted(own.targets), concurrency=settings.workers.worker_concurrency
            )
        )
        yield core
    log.info("worker_stopped")


@contextlib.contextmanager
def _told(what: str, **fields: Any) -> Iterator[None]:
    """Log that a process serves, and at the end of the block that it begins to stop."""
    log.info(f"{what}_serves", version=__version__, **fields)
    try:
        yield
    finally:
        log.info(f"{what}_stops")


@contextlib.asynccontextmanager
async def open_queue(settings: Settings) -> AsyncIterator[tuple[QueueService, AdminLog]]:
    """Open the queue of a running server, or of shared stores, and its log of what admins change.

    Raise StoreError without one.

    It makes none: a mistyped name would be a queue, and an empty one.
    """
    home = key_prefix(settings.queue.queue_name)
    async with open_redis(
        _redis_url(settings), home, settings.stores, answer_seconds=MAINTENANCE_SECONDS
    ) as redis:
        await patiently(redis.ping)
        if not await has_queue(redis, settings.queue.queue_name):
            raise StoreError(
                f"there is no queue {settings.queue.queue_name} in this Redis: name it by "
                "RT_QUEUE_NAME, or start a server or worker on it first"
            )
        await prepare_redis(redis, settings.queue.queue_name)
        queue = queue_of(redis, settings)
        try:
            yield queue, AdminLog(redis, queue.prefix, settings.server.admin_log_entries)
        finally:
            await queue.close()


async def _check_urls(settings: Settings) -> None:
    """Read the addresses of shared stores. Raise BadRedisUrl, BadMongodbUrl."""
    # Nothing connects before it is used.
    if settings.stores.redis_url:
        async with open_redis(settings.stores.redis_url, key_prefix(settings.queue.queue_name)):
            pass
    if settings.stores.mongodb_url:
        async with open_database(
            settings.stores.mongodb_url, settings.stores.mongodb_database, settings.stores
        ):
            pass


async def _prepare_data(settings: Settings, addresses: StoreAddresses) -> None:
    """Bring what is stored to this version, before anything else touches it. Raise DataRefused."""
    name = settings.stores.mongodb_database
    async with open_database(addresses.mongodb_url, name, settings.stores) as database:
        # Either store may refuse; then the other is not changed.
        await read_mongodb_version(database)
        await _prepare_queue(settings, addresses.redis_url)
        await _prepare_queue(
            settings.changed(queue_name=deliveries_of(settings)), addresses.redis_url
        )
        await prepare_mongodb(database)


async def _prepare_queue(settings: Settings, redis_url: str) -> None:
    home = key_prefix(settings.queue.queue_name)
    async with open_redis(
        redis_url, home, settings.stores, answer_seconds=MAINTENANCE_SECONDS
    ) as redis:
        await patiently(redis.ping)
        await prepare_redis(redis, settings.queue.queue_name)


def _redis_url(settings: Settings) -> str:
    return settings.stores.redis_url or running_addresses(settings.server.data_dir).redis_url


def _load_work(settings: Settings, *own: Kind) -> _Work:
    """Load the work of this process, and its `own` kinds. Raise KindError, HandlerError."""
    kinds = _load_kinds(settings)
    targets = load_targets(kinds, settings)
    if settings.workers.worker_concurrency:
        ours = {kind.name: kind for kind in own}
        targets |= load_targets(ours, settings.changed(worker_processes=False))
        kinds |= ours
    return _Work(kinds, targets, schedules_of(kinds, settings.tasks.task_params_bytes))


def _load_kinds(settings: Settings) -> dict[str, Kind]:
    """Return the kinds that this process has, by name. Raise KindError."""
    kinds = load_kinds(settings.workers.kinds, settings)
    if settings.workers.worker_handler:
        analysis = analysis_kind(settings.workers.worker_handler, settings)
        # An author's own kind of this name takes its place.
        kinds.setdefault(analysis.name, analysis)
    return kinds


def _watch_logs(core: Core, notifications: NotificationService, topics: TopicService) -> None:
    limits, queue = core.limits, core.queue
    watches = [
        LogWatch(
            core.hub,
            "task",
            partial(queue.read_heads, "task"),
            lambda: limits.live.sse_poll_timeout_seconds,
        ),
        LogWatch(
            core.hub,
            "batch",
            partial(queue.read_heads, "batch"),
            lambda: limits.live.sse_batch_poll_interval_seconds,
        ),
        LogWatch(core.hub, "user", notifications.read_heads, lambda: USER_CHECK_SECONDS),
        LogWatch(core.hub, APP, topics.read_heads, lambda: USER_CHECK_SECONDS),
        LogWatch(core.hub, TASKS, queue.read_change_heads, lambda: USER_CHECK_SECONDS),
    ]
    for watch in watches:
        core.jobs.keep(watch.run, "log-watch")
    core.jobs.keep(StalledWatch(queue).run, "stalled")
    core.jobs.keep(core.presence.run, "presence")
    core.jobs.keep(core.devices.run, "devices")
    core.jobs.keep(core.metrics.share, "metrics")


async def _open_system_settings(core: Core, database: Any) -> SystemSettingsService:
    service = SystemSettingsService(database, core.backplane, core.limits.live)

    def follow(live: SystemSettings) -> None:
        core.limits.live = live
        core.hub.reschedule()

    follower = SettingsFollower(service, follow, core.hub.spawn)
    await patiently(partial(core.hub.subscribe, CONTROL, follower))
    follow(await service.get())
    return service


async def _register(core: Core, own: _Work, *, is_server: bool = True) -> None:
    """Make the kinds of this process known, and fire schedules in it, which makes its own known.

    They take the place of what other processes have said: by then nothing may refuse the start.
    The limits over all kinds are those of a server: a worker may know none of its settings.
    """
    entries = core.kinds.entries()
    await patiently(partial(core.queue.register_kinds, entries, overwrite=is_server))
    runner = ScheduleRunner(core.queue, _tasks(core).make, own.schedules)
    await patiently(partial(core.hub.subscribe, SCHEDULES, runner))
    core.jobs.keep(runner.run, "schedules")


def _tasks(core: Core) -> TaskService:
    bounds = TaskBounds.of(core.settings)
    return TaskService(core.queue, core.kinds, core.plans, bounds, core.estimates)


@contextlib.asynccontextmanager
async def _worker(core: Core, targets: Mapping[str, Target]) -> AsyncIterator[None]:
    settings = core.settings
    await patiently(partial(warn_of_idle_places, core.queue, settings.workers.worker_concurrency))
    async with _working(
        core,
        core.queue,
        targets,
        settings.queue.queue_name,
        concurrency=settings.workers.worker_concurrency,
        grace_seconds=settings.workers.worker_grace_seconds,
        metrics=core.metrics,
        forecasts=core.estimates,
        submitter=Children(_tasks(core)),
    ):
        yield


@contextlib.asynccontextmanager
async def _deliverer(core: Core, deliveries: Deliveries) -> AsyncIterator[None]:
    """Deliver until the block ends. All kinds of deliveries are registered by then."""
    settings = core.settings
    await patiently(partial(deliveries.queue.register_kinds, deliveries.entries()))
    async with _working(
        core,
        deliveries.queue,
        delivery_targets(deliveries, settings),
        deliveries_of(settings),
        concurrency=settings.callbacks.delivery_concurrency,
        grace_seconds=min(settings.workers.worker_grace_seconds, DELIVERY_GRACE_SECONDS),
        metrics=Uncounted(),
    ):
        yield


@contextlib.asynccontextmanager
async def _working(
    core: Core, queue: QueueService, targets: Mapping[str, Target], name: str, **options: Any
) -> AsyncIterator[None]:
    """Run a worker of the queue of this name until the block ends."""
    # Never given twice: the holder of a task must differ from the one before a restart.
    worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    roster = Roster(core.settings.server.data_dir / "workers" / name)
    worker = Worker(queue, targets, worker_id=worker_id, roster=roster, **options)
    with roster.entered(worker_id):
        await patiently(partial(core.hub.subscribe, WORKERS, worker))
        running = core.jobs.keep(worker.run, "worker")
        try:
            yield
        finally:
            worker.stop()
            # Awaited itself, it would be cancelled with us.
            await asyncio.wait([running])
            core.hub.unsubscribe(WORKERS, worker)


@contextlib.asynccontextmanager
async def _remote_work(core: Core) -> AsyncIterator[RemoteWork]:
    """Serve workers that are elsewhere until the block ends."""
    bounds = RemoteBounds.of(core.settings)
    remote = RemoteWork(
        core.queue, core.kinds, core.estimates, bounds, core.metrics, Children(_tasks(core))
    )
    await patiently(partial(core.hub.subscribe, WORKERS, remote))
    try:
        yield remote
    finally:
        await remote.close()
        core.hub.unsubscribe(WORKERS, remote)


async def _open_board(core: Core, remote: RemoteWork) -> _Board:
    """Open the operator's side: it answers other processes, and makes points, from here on."""
    prefix, queue = core.queue.prefix, core.queue
    gathering = Gathering(core.redis, prefix, core.hub.spawn)
    board = _Board(
        AdminLog(core.redis, prefix, core.settings.server.admin_log_entries),
        Series(queue),
        Overview(queue, core.presence),
        Fleet(queue, core.plans, remote, gathering),
        BulkWork(queue, core.redis, prefix),
        Roll(core.hub, gathering),
    )
    await patiently(partial(core.hub.subscribe, ASKED, gathering))
    core.jobs.keep(board.series.run, "series")
    core.jobs.keep(FindAgain(queue).run, "find-again")
    return board


def _application(
    core: Core,
    database: Any,
    telling: Telling,
    absent: Absent,
    services: Services,
    remote: RemoteWork,
    board: _Board,
    system_settings: SystemSettingsService,
    secret: str,
    verifier: TokenVerifier,
    folder_fault: Callable[[], str | None],
    gauges: QueueGauges,
    authenticate: Authenticate | None,
    languages: Languages,
) -> Application:
    settings = core.settings
    tickets = Tickets(
        core.shared, settings.auth.ticket_ttl_seconds, settings.auth.max_tickets_per_user
    )
    readiness = Readiness(
        core.redis,
        database,
        core.backplane,
        core.hub,
        core.jobs,
        verifier.faults,
        partial(data_fault, core.redis, settings.queue.queue_name),
        folder_fault,
        f"{key_prefix(settings.queue.queue_name)}probe",
    )
    demo = {
        "configuration": settings,
        "secret": secret,
        "enabled": not demo_refusal(settings),
    }
    tasks, topics = services.tasks, services.topics
    schedules = ScheduleService(
        core.queue,
        tasks.make,
        TaskBounds.of(settings),
        most_per_user=settings.queue.schedules_per_user,
    )
    feeds = FeedFinder(
        telling.notifications, tasks, core.queue, core.plans, topics, board.series, core.limits
    )
    table = routes(
        queue={"queue": core.queue},
        tasks={"tasks": tasks, "queue": core.queue, "plans": core.plans},
        schedules={"schedules": schedules},
        why={"why": _why(core, telling)},
        operator={"operator": Operator(core.queue)},
        notifications={"notifications": telling.notifications, "tasks": tasks},
        webhooks={"webhooks": telling.webhooks},
        push={"subscriptions": absent.subscriptions},
        email={
            "addresses": absent.addresses,
            "links": absent.links,
            "words_of": absent.words_of,
        },
        system_settings={"system_settings": system_settings},
        feeds={"feeds": feeds},
        topics={"topics": topics},
        tickets={"tickets": tickets},
        demo=demo,
        ready={"faults": readiness.faults},
        metrics={"metrics": core.metrics, "refresh": gauges.refresh},
        presence={"presence": core.presence},
        worker={"work": remote, "frame_bytes": settings.workers.remote_frame_bytes},
        admin=board.routes(),
    )
    return RoutedApplication(
        under(
            settings.server.prefix,
            [*table, *page_routes(settings.server.page_path, settings.server.admin_path)],
        ),
        default_handler_class=NotFoundHandler,
        log_function=access_log(core.metrics),
        prefix=settings.server.prefix,
        page=settings.server.page_address,
        hub=core.hub,
        verifier=verifier,
        authenticate=authenticate,
        tickets=tickets,
        rate_limiter=RateLimiter(settings.connections.requests_per_second),
        under_way=UnderWay(settings.connections.request_timeout_seconds),
        folder_fault=folder_fault,
        problems=PROBLEMS,
        languages=languages,
        note=board.log.note,
        max_body_bytes=settings.connections.max_body_bytes,
        request_timeout_seconds=settings.connections.request_timeout_seconds,
        max_topics_per_connection=settings.streams.max_topics_per_connection,
        websocket_max_message_size=settings.streams.max_message_bytes,
        websocket_compression=settings.streams.websocket_compression,
        sse_error_event=settings.streams.sse_error_event,
        trusted_origins=settings.server.trusted_origins,
        cross_origin_protection=True,
    )


def _why(core: Core, telling: Telling) -> WhyService:
    gatherer = Gatherer(
        core.queue,
        core.plans,
        telling.notifications,
        telling.webhooks,
        core.devices,
        partial(find_entry, core.redis, core.settings.queue.queue_name),
    )
    return WhyService(core.queue, gatherer)


@contextlib.contextmanager
def _bound(
    settings: Settings, *, shared: bool = False, setting: str = "port"
) -> Iterator[list[socket.socket]]:
    """Listen at the port until the block ends. Raise CannotListen."""
    with contextlib.ExitStack() as held:
        bound = bind_address(
            settings.server.host, settings.server.port, reuse_port=shared, setting=setting
        )
        sockets = [held.enter_context(one) for one in bound]
        held.enter_context(ports_guarded(sockets))
        yield sockets


@contextlib.asynccontextmanager
async def _serving(
    application: Application,
    settings: Settings,
    sockets: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    metrics: Metrics,
) -> AsyncIterator[None]:
    """Accept connections, and answer them, until the block ends."""
    server = Listener(
        application,
        requests=RequestBounds(
            settings.connections.max_header_bytes,
            settings.connections.header_timeout_seconds,
            settings.connections.idle_timeout_seconds,
            settings.connections.body_timeout_seconds,
        ),
        accepts=AcceptBounds(
            settings.connections.max_sockets,
            settings.connections.max_sockets_per_address,
            clients_share(raise_limit()),
            settings.connections.peer_timeout_seconds,
        ),
        metrics=metrics,
        tls=tls,
        behind_proxy=settings.server.trust_proxy_headers,
    )
    server.add_sockets(sockets)
    try:
        yield
    finally:
        await server.leave(settings.server.request_grace_seconds)


def _application_of_worker(core: Core) -> Application:
    """Return what a supervisor asks of a process that only works."""
    settings = core.settings
    readiness = Readiness(
        core.redis,
        None,
        core.backplane,
        core.hub,
        core.jobs,
        list,
        partial(data_fault, core.redis, settings.queue.queue_name),
        lambda: None,
        f"{key_prefix(settings.queue.queue_name)}probe",
    )
    table = worker_routes(
        ready={"faults": readiness.faults},
        metrics={"metrics": core.metrics, "refresh": _gauges(core).refresh},
    )
    return Application(
        table,
        default_handler_class=NotFoundHandler,
        log_function=access_log(core.metrics),
        prefix="",
        rate_limiter=RateLimiter(settings.connections.requests_per_second),
        under_way=UnderWay(settings.connections.request_timeout_seconds),
        max_body_bytes=settings.connections.max_body_bytes,
        request_timeout_seconds=settings.connections.request_timeout_seconds,
    )


def _gauges(core: Core) -> QueueGauges:
    lag = partial(read_lag, core.redis, core.settings.queue.queue_name)
    return QueueGauges(core.queue, lag, core.metrics)


def url_of(settings: Settings, port: int) -> str:
    """Return the URL of a server on this port, with the prefix."""
    scheme = "https" if settings.server.tls_certificate else "http"
    host = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
    return f"{scheme}://{host}:{port}{settings.server.prefix}"
