"""Every setting, its default and its unit. The only reader of the environment.

A setting `port` comes from the command line (`--port`), else from `RT_PORT`, else from the TOML
file named by `RT_CONFIG` (table `[tornado_rt]`), else from the default here. A list is written with
commas. For every limit 0 means none.
"""

import os
from enum import StrEnum
from pathlib import Path

import attrs
import typed_settings as ts
from attrs import validators as v
from typed_settings.converters import TSConverter
from typed_settings.loaders import Loader

ENV_PREFIX = "RT_"
CONFIG_VARIABLE = "RT_CONFIG"
CONFIG_TABLE = "tornado_rt"


class QueueOrder(StrEnum):
    """In which order waiting tasks of different users start."""

    FIFO = "fifo"
    FAIR = "fair"


class RedisFsync(StrEnum):
    """When the embedded Redis has its append-only file written to disk."""

    EVERYSEC = "everysec"
    ALWAYS = "always"


class LogLevel(StrEnum):
    """From which severity on to log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@attrs.frozen(kw_only=True)
class Settings:
    """The configuration of one process; durations are seconds, sizes bytes."""

    host: str = ts.option(default="127.0.0.1", help="address to listen on")
    port: int = ts.option(
        default=8888,
        validator=[v.ge(0), v.le(65535)],
        help="port to listen on; 0 takes a free one",
    )
    processes: int = ts.option(
        default=1, validator=v.ge(1), help="server processes that share the port; Linux"
    )
    data_dir: Path = ts.option(
        default=Path("data"), help="folder of the embedded stores and of generated secrets"
    )
    redis_url: str = ts.option(default="", help="shared Redis; empty starts an embedded one")
    mongodb_url: str = ts.option(default="", help="shared MongoDB; empty starts an embedded one")
    mongodb_database: str = ts.option(default="tornado_rt", help="database name in MongoDB")
    log_level: LogLevel = ts.option(default=LogLevel.INFO, help="from which severity on to log")
    redis_fsync: RedisFsync = ts.option(
        default=RedisFsync.EVERYSEC,
        help="when the embedded Redis writes to disk: each second, or before each answer",
    )
    trusted_origins: list[str] = ts.option(
        default=[], help="browser origins besides our own that may connect"
    )
    trust_proxy_headers: bool = ts.option(
        default=False, help="believe X-Real-Ip and X-Forwarded-For; only behind a proxy"
    )

    jwt_secret: str = ts.secret(
        default="", help="HMAC secret, 32 bytes or more; empty makes one in the data folder"
    )
    jwt_public_key: str = ts.option(
        default="", help="PEM file of the key that RS256, ES256 or EdDSA tokens are checked with"
    )
    jwt_jwks_url: str = ts.option(default="", help="JWKS address that token keys are taken from")
    jwt_algorithms: list[str] = ts.option(default=["HS256"], help="allow-list of token algorithms")
    jwt_issuer: str = ts.option(default="", help="required `iss`; empty checks none")
    jwt_audience: str = ts.option(default="", help="required `aud`; empty checks none")
    jwt_leeway_seconds: float = ts.option(
        default=0.0, validator=v.ge(0), help="clock skew allowed in `exp` [s]"
    )
    ticket_ttl_seconds: int = ts.option(
        default=30, validator=v.ge(1), help="life of a one-time ticket [s]"
    )

    ws_heartbeat_seconds: float = ts.option(
        default=30.0, validator=v.ge(0), help="interval of WebSocket heartbeats [s]"
    )
    sse_heartbeat_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="interval of event-stream heartbeats [s]"
    )
    max_connections_per_user: int = ts.option(
        default=50, validator=v.ge(0), help="open sockets and streams a user"
    )
    max_connections_per_address: int = ts.option(
        default=1000, validator=v.ge(0), help="open sockets and streams an address"
    )
    max_connections: int = ts.option(
        default=0, validator=v.ge(0), help="open sockets and streams a process"
    )
    requests_per_second: float = ts.option(
        default=100.0, validator=v.ge(0), help="HTTP requests an address [1/s]"
    )
    max_message_bytes: int = ts.option(
        default=65536, validator=v.ge(125), help="largest frame that a client may send [B]"
    )
    max_body_bytes: int = ts.option(
        default=1048576, validator=v.ge(1024), help="largest request body [B]"
    )
    max_pending_bytes: int = ts.option(
        default=1048576, validator=v.ge(0), help="what may wait for a slow reader [B]"
    )
    peer_timeout_seconds: float = ts.option(
        default=60.0,
        validator=v.ge(0),
        help="how long what was sent may stay unacknowledged by a peer [s]; Linux",
    )
    websocket_compression: bool = ts.option(
        default=False, help="permessage-deflate: fewer bytes for more processor time"
    )
    tls_certificate: str = ts.option(
        default="", help="PEM file of the certificate chain; empty serves without TLS"
    )
    tls_key: str = ts.option(
        default="", help="PEM file of its key; empty when it is in the certificate's file"
    )
    replay_limit: int = ts.option(
        default=500, validator=v.ge(1), help="most messages that a resume replays"
    )
    drain_seconds: float = ts.option(
        default=2.0, validator=v.ge(0), help="time over which a stop closes sockets [s]"
    )

    queue_name: str = ts.option(
        default="rtq", validator=v.matches_re(r"[A-Za-z0-9_-]{1,64}"), help="prefix of queue keys"
    )
    queue_order: QueueOrder = ts.option(
        default=QueueOrder.FIFO, help="FIFO over all users, or FAIR turns between users"
    )
    queue_user_limit: int = ts.option(default=3, validator=v.ge(0), help="running tasks a user")
    queue_global_limit: int = ts.option(default=3, validator=v.ge(0), help="running tasks in all")
    queue_max_waiting_per_user: int = ts.option(
        default=1000, validator=v.ge(0), help="waiting tasks a user"
    )
    queue_max_batch: int = ts.option(
        default=100, validator=v.ge(1), help="most symbols in one batch"
    )
    queue_visibility_seconds: float = ts.option(
        default=300.0, validator=v.gt(0), help="how long a claim lasts unextended [s]"
    )
    queue_max_attempts: int = ts.option(
        default=3, validator=v.ge(1), help="claims before a task is dead"
    )
    queue_retry_base_seconds: float = ts.option(
        default=5.0,
        validator=v.ge(0),
        help="wait before the first retry; each next one doubles [s]",
    )
    queue_retry_max_seconds: float = ts.option(
        default=300.0, validator=v.ge(0), help="longest wait before a retry [s]"
    )
    queue_idempotency_seconds: float = ts.option(
        default=86400.0, validator=v.gt(0), help="how long an Idempotency-Key is remembered [s]"
    )
    queue_retention_seconds: float = ts.option(
        default=604800.0, validator=v.ge(0), help="how long ended tasks are kept [s]; 0: forever"
    )
    task_events: int = ts.option(
        default=256, validator=v.ge(1), help="messages kept of each task or batch for replay"
    )
    worker_concurrency: int = ts.option(
        default=3, validator=v.ge(0), help="tasks run inside the server; 0: no worker in it"
    )
    worker_handler: str = ts.option(
        default="examples.stock_analysis:analyse", help="MODULE:FUNCTION that runs a task"
    )
    worker_processes: bool = ts.option(
        default=False, help="run each task in a process of its own, for handlers that compute"
    )
    task_timeout_seconds: float = ts.option(
        default=0.0, validator=v.ge(0), help="longest run of a handler [s]"
    )
    task_result_bytes: int = ts.option(
        default=262144, validator=v.ge(0), help="largest result of a task as JSON [B]"
    )
    worker_grace_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="time that running tasks get at a stop [s]"
    )
    step_seconds: float = ts.option(
        default=1.0, validator=v.ge(0), help="how long each step of the example lasts [s]"
    )

    notification_quota: int = ts.option(
        default=1000, validator=v.ge(0), help="notifications kept a user"
    )
    notification_ttl_days: int = ts.option(
        default=90, validator=v.ge(1), help="age at which a notification goes [days]"
    )
    demo_login: bool = ts.option(
        default=True,
        help="the page may mint tokens; only while the secret is generated and host is loopback",
    )


def loaders() -> list[Loader]:
    """Return where settings come from, weakest first: the TOML file, then the environment."""
    named = os.environ.get(CONFIG_VARIABLE)
    # The mark makes a file that is not there an error.
    files = [f"!{named}"] if named else []
    toml = ts.FileLoader(files=files, formats={"*.toml": ts.TomlFormat(CONFIG_TABLE)})
    return [toml, ts.EnvLoader(prefix=ENV_PREFIX)]


def converter() -> TSConverter:
    """Return what reads texts as settings; a list is written with commas."""
    return TSConverter(resolve_paths=False, strlist_sep=",")


def load_settings() -> Settings:
    """Read the settings without a command line. Raise `ts.exceptions.TsError` for a bad value."""
    return ts.load_settings(Settings, loaders(), converter=converter())
