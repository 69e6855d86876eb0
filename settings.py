"""Every setting, its default and its unit. The only reader of the environment.

A setting `port` comes from the command line (`--port`), else from `RT_PORT`, else from the TOML
file named by `RT_CONFIG` (table `[tornado_rt]`), else from the default here. A list is written with
commas. For every limit 0 means none.

`WrittenSettings` has all settings side by side, as they are written there. `Settings` has the same
ones in groups, as the code reads them.

It is long because each setting stands here once, with its bounds.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, urlsplit

import attrs
import typed_settings as ts
from attrs import validators as v
from typed_settings.converters import TSConverter
from typed_settings.loaders import Loader

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

# The names of modules beside this one begin with it: in the wheel all stand inside a package.
BESIDE = __name__.removesuffix("settings")
ENV_PREFIX = "RT_"
CONFIG_VARIABLE = "RT_CONFIG"
CONFIG_TABLE = "tornado_rt"
# Names the folder of metrics to the client library, which reads it when it is imported.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# Names the sampler to OpenTelemetry's SDK, which reads it itself.
SAMPLER_VARIABLE = "OTEL_TRACES_SAMPLER"
# Where a client finds the server, and with which token it asks.
URL_VARIABLE, TOKEN_VARIABLE = "RT_URL", "RT_TOKEN"
# Read by the command, the tests, the benchmarks and their scripts.
OTHER_VARIABLES = re.compile(
    r"RT_(CONFIG|URL|TOKEN|REQUIRE_PROGRAMS|FAULT_.*|FUZZ_.*|MAIN|PYTHON|HOSTILE)"
)

AUTOMATIC = "auto"
TOKEN_ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "ES256K", "EdDSA"),
)
# A hundred years. Larger numbers overflow in clocks, in dates, and in Redis.
# The scripts of the queue read a number of attempts of at most 15 digits.
MOST = {"_seconds": 36500 * 86400, "_days": 36500, "_attempts": 10**15 - 1}
MOST_NUMBER = 2**53
# Bounds of what an admin may change while the server runs.
DAY_SECONDS = 86400.0
MOST_CONNECTIONS_PER_USER = 1_000_000
WEB_PORTS = {"http": 80, "https": 443}
# Values of the option `starttls` of a mail server.
STARTTLS = ("auto", "require", "off")
# A mailbox in ASCII (RFC 5321 section 4.1.2, without quoted names).
MAILBOX = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
# Segments of a path that no browser, proxy or pattern writes in another way (RFC 3986).
PREFIX = r"(/[A-Za-z0-9._~-]+)*"
# First names of the server's own paths.
NO_PAGES = r"api|email|healthz|metrics|readyz|static|sw\.js|\.{1,2}"
# Characters that IDNA 2003, which Python knows, and browsers encode differently.
DEVIANT = set("\u00df\u03c2\u200c\u200d")


class QueueOrder(StrEnum):
    """In which order waiting tasks of different users start."""

    FIFO = "fifo"
    FAIR = "fair"


class RedisFsync(StrEnum):
    """When the embedded Redis has its append-only file written to disk."""

    EVERYSEC = "everysec"
    ALWAYS = "always"


class TracesTo(StrEnum):
    """Where spans go."""

    OFF = "off"
    OTLP = "otlp"


class LogLevel(StrEnum):
    """From which severity on to log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def _listed(value: str | Sequence[str]) -> list[str]:
    """Read a list that is written with commas; spaces around them and empty items do not count."""
    written = [value] if isinstance(value, str) else value
    if not isinstance(written, list | tuple) or not all(isinstance(one, str) for one in written):
        raise ValueError("must be a list of texts")
    items = [item.strip() for text in written for item in text.split(",")]
    return [item for item in items if item]


def _algorithms(names: list[str]) -> list[str]:
    known = {name.lower(): name for name in (AUTOMATIC, *TOKEN_ALGORITHMS)}
    strange = [name for name in names if name.lower() not in known]
    if strange:
        raise ValueError(f"jwt_algorithms: {strange[0]} is none of {', '.join(TOKEN_ALGORITHMS)}")
    chosen = list(dict.fromkeys(known[name.lower()] for name in names))
    if not chosen or (AUTOMATIC in chosen and len(chosen) > 1):
        raise ValueError(f"jwt_algorithms: name one or more algorithms, or {AUTOMATIC} alone")
    return chosen


def _folder(value: str | Path) -> Path:
    # An empty path is the current folder.
    if not os.fspath(value):
        raise ValueError("data_dir: name a folder, such as data; . is the current one")
    return Path(value)


def _matching(pattern: str, rule: str) -> Callable[[Any, Any, str], None]:
    """Return a validator; `rule` says what the pattern asks for."""

    def validate(_: Any, field: Any, value: str) -> None:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{field.name}: {rule}")

    return validate


def _check_web_url(_: Any, field: Any, value: str) -> None:
    if not value:
        return
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in WEB_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not value.isprintable() or " " in value:
        raise ValueError(f"{field.name}: must be an http:// or https:// address")


def _prefix(value: str) -> str:
    """Return a prefix of paths without the slash at its end. Raise ValueError."""
    prefix = str(value).rstrip("/")
    if not re.fullmatch(PREFIX, prefix) or {".", ".."} & set(prefix.split("/")):
        raise ValueError("prefix: write it as /rt: a slash, then letters, digits, - . _ and ~")
    return prefix


def _check_smtp_url(_: Any, field: Any, value: str) -> None:
    if not value:
        return
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
        starttls = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        known, starttls = False, {}
    if not known or parts.path not in ("", "/") or not value.isprintable():
        # The value may hold a password, which no message repeats.
        raise ValueError(f"{field.name}: must be an address as smtp://user:password@host:587")
    if starttls.keys() - {"starttls"} or starttls.get("starttls", "auto") not in STARTTLS:
        raise ValueError(f"{field.name}: its only option is starttls, one of {', '.join(STARTTLS)}")


def _origin(text: str) -> str:
    """Return an origin as browsers write it (RFC 6454 section 6.2)."""
    if "*" in text:
        raise _no_origin(text, "there are no wildcards: name each origin")
    scheme, mark, _ = text.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise _no_origin(text, "write it with its scheme, as https://app.example")
    if scheme.lower() in ("ws", "wss", "file"):
        raise _no_origin(text, "pages come from http:// or https:// origins")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _no_origin(text, str(error)) from None
    if parts.path not in ("", "/") or "?" in text or "#" in text or "@" in text:
        raise _no_origin(text, "an origin is a scheme, a host and a port, nothing more")
    host = _origin_host(text, parts.hostname or "")
    named = port is not None and port != WEB_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if named else "")


def _origin_host(text: str, host: str) -> str:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host).compressed}]"
        except ValueError:
            raise _no_origin(text, "that is no IPv6 address") from None
    if set(host) & DEVIANT:
        raise _no_origin(text, "write the ASCII form of its host (xn--)")
    try:
        ascii_host = host.encode("idna").decode().lower()
    except UnicodeError:
        raise _no_origin(text, "its host is not a name") from None
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", ascii_host):
        raise _no_origin(text, "its host is not a name")
    return ascii_host


def _no_origin(text: str, reason: str) -> ValueError:
    return ValueError(f"trusted_origins: {text[:100]}: {reason}")


@attrs.frozen(kw_only=True, slots=False)
class Group:
    """Settings that belong together."""

    title: ClassVar[str] = ""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self, recurse=False).items():
            most = next((most for end, most in MOST.items() if name.endswith(end)), MOST_NUMBER)
            if isinstance(value, int | float) and not value <= most:
                raise ValueError(f"{name}: must be at most {most}")


@attrs.frozen(kw_only=True, slots=False)
class ServerSettings(Group):
    """Where the server listens, what it serves, and how it stops.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Server"

    host: str = ts.option(
        default="127.0.0.1",
        # A socket takes an empty one for every address.
        validator=_matching(r"(?s).*\S.*", "name an address; 127.0.0.1 is this machine alone"),
        help="address to listen on",
    )
    port: int = ts.option(
        default=8888,
        validator=[v.ge(0), v.le(65535)],
        help="port to listen on; 0 takes a free one",
    )
    prefix: str = ts.option(
        default="",
        converter=_prefix,
        help="path under which everything is served, such as /rt; empty: at the root",
    )
    public_url: str = ts.option(
        default="",
        validator=_check_web_url,
        help="address at which users reach this server, with the prefix, for links in mail; empty: "
        "the one it listens on",
    )
    page_path: str = ts.option(
        default="/",
        validator=_matching(
            rf"(?:/(?!(?:{NO_PAGES})$)[A-Za-z0-9._~-]*)?",
            "write it as /app: a slash and one name that nothing else has; empty for no page",
        ),
        help="path of the page under the prefix, such as /app; empty: no page",
    )
    admin_path: str = ts.option(
        default="/admin",
        validator=_matching(
            rf"(?:/(?!(?:{NO_PAGES})$)[A-Za-z0-9._~-]+)?",
            "write it as /admin: a slash and one name that nothing else has; empty for no page",
        ),
        help="path of the operator's page under the prefix, such as /admin; empty: no page",
    )
    processes: int = ts.option(
        default=1, validator=v.ge(1), help="server processes that share the port; Linux"
    )
    data_dir: Path = ts.option(
        default=Path("data"),
        converter=_folder,
        # argparse must not make an empty text a path.
        argparse={"type": str},
        help="folder of the embedded stores and of generated secrets",
    )
    log_level: LogLevel = ts.option(default=LogLevel.INFO, help="from which severity on to log")
    trusted_origins: list[str] = ts.option(
        default=[],
        converter=lambda value: [_origin(one) for one in _listed(value)],
        help="browser origins besides our own that may connect",
    )
    trust_proxy_headers: bool = ts.option(
        default=False, help="believe X-Real-Ip and X-Forwarded-For; only behind a proxy"
    )
    tls_certificate: str = ts.option(
        default="", help="PEM file of the certificate chain; empty serves without TLS"
    )
    tls_key: str = ts.option(
        default="", help="PEM file of its key; empty when it is in the certificate's file"
    )
    request_grace_seconds: float = ts.option(
        default=2.0,
        validator=v.ge(0),
        help="how long requests have to be answered at a stop; then they get 503 [s]",
    )
    drain_seconds: float = ts.option(
        default=2.0, validator=v.ge(0), help="time over which a stop closes sockets [s]"
    )
    admin_log_entries: int = ts.option(
        default=10000,
        validator=v.ge(0),
        help="entries kept of what admins changed, the newest; 0: none is kept",
    )

    @property
    def page_address(self) -> str:
        """The path of the page with the prefix, "" for no page."""
        return self.prefix + self.page_path if self.page_path else ""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.admin_path and self.admin_path == self.page_path:
            raise ValueError("admin_path: the page is there: write another path")
        if self.public_url and not self.public_url.rstrip("/").endswith(self.prefix):
            raise ValueError(f"public_url: must end with the prefix {self.prefix}")


@attrs.frozen(kw_only=True, slots=False)
class TracingSettings(Group):
    """Traces of OpenTelemetry."""

    title: ClassVar[str] = "Traces"

    traces: TracesTo = ts.option(
        default=TracesTo.OFF,
        help="record traces of OpenTelemetry: off, or otlp to export them as OTEL_* variables say",
    )
    traces_users: bool = ts.option(
        default=False, help="let spans have ids of users and addresses of clients"
    )
    traces_flush_seconds: float = ts.option(
        default=2.0,
        validator=v.ge(0),
        help="at a stop, longest wait for spans that are still to be exported [s]",
    )


@attrs.frozen(kw_only=True, slots=False)
class StoreSettings(Group):
    """Redis and MongoDB: of one's own, or embedded.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Stores"

    redis_url: str = ts.option(default="", help="shared Redis; empty starts an embedded one")
    redis_connections: int = ts.option(
        default=64, validator=v.ge(4), help="most connections to Redis of each pool"
    )
    redis_connect_seconds: float = ts.option(
        default=0.7,
        validator=[v.gt(0), v.le(DAY_SECONDS)],
        help="longest wait for a connection to Redis [s]",
    )
    redis_answer_seconds: float = ts.option(
        default=1.0,
        validator=[v.gt(0), v.le(DAY_SECONDS)],
        help="longest wait for an answer of Redis [s]",
    )
    mongodb_url: str = ts.option(default="", help="shared MongoDB; empty starts an embedded one")
    mongodb_database: str = ts.option(
        default="tornado_rt",
        # Names that a server takes on any system (MongoDB manual, "Naming Restrictions").
        validator=_matching(
            r"[^/\\. \"$*<>:|?\x00-\x20]{1,63}",
            'must have 1 to 63 characters, no spaces, and none of / \\ . " $ * < > : | ?',
        ),
        help="database name in MongoDB",
    )
    mongodb_connect_seconds: float = ts.option(
        default=1.5,
        validator=[v.ge(0.001), v.le(DAY_SECONDS)],
        help="longest wait for a server of MongoDB [s]",
    )
    mongodb_answer_seconds: float = ts.option(
        default=5.0,
        validator=[v.ge(0.001), v.le(DAY_SECONDS)],
        help="longest wait for an answer of MongoDB [s]",
    )
    mongodb_requests: int = ts.option(
        default=6, validator=v.ge(0), help="requests that use MongoDB at once"
    )
    mongodb_requests_per_user: int = ts.option(
        default=2, validator=v.ge(0), help="requests of a user that use MongoDB at once"
    )
    mongodb_waiting_per_user: int = ts.option(
        default=100, validator=v.ge(0), help="requests of a user that wait for MongoDB"
    )
    mongodb_wait_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="longest wait of a request for MongoDB [s]"
    )
    redis_fsync: RedisFsync = ts.option(
        default=RedisFsync.EVERYSEC,
        help="when the embedded Redis writes to disk: each second, or before each answer",
    )
    redis_max_bytes: int = ts.option(
        default=2**30,
        validator=v.ge(0),
        help="memory of the embedded Redis; when it is full, requests that store more get 503 [B]",
    )


@attrs.frozen(kw_only=True, slots=False)
class AuthSettings(Group):
    """The tokens that count, and the names of their claims.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Tokens"

    jwt_secret: str = ts.secret(
        default="", help="HMAC secret, 32 bytes or more; empty makes one in the data folder"
    )
    jwt_previous_secret: str = ts.secret(
        default="", help="HMAC secret before this one, which is still good; to replace a secret"
    )
    jwt_user_claim: str = ts.option(
        default="sub", validator=v.min_len(1), help="claim that names the user: text or a number"
    )
    jwt_scope_claim: str = ts.option(
        default="scope",
        validator=v.min_len(1),
        help="claim with the scopes: a list, or text with spaces between; a.b: member of a claim",
    )
    jwt_topics_claim: str = ts.option(
        default="topics",
        validator=v.min_len(1),
        help="claim with patterns of topics that may be followed: as the scopes",
    )
    jwt_kinds_claim: str = ts.option(
        default="kinds",
        validator=v.min_len(1),
        help="claim with patterns of kinds that a worker may work on: as the scopes",
    )
    jwt_public_key: str = ts.option(
        default="", help="PEM file of the key that RS256, ES256 or EdDSA tokens are checked with"
    )
    jwt_jwks_url: str = ts.option(
        default="", validator=_check_web_url, help="JWKS address that token keys are taken from"
    )
    jwt_algorithms: list[str] = ts.option(
        default=[AUTOMATIC],
        converter=lambda value: _algorithms(_listed(value)),
        help="allow-list of token algorithms; auto: HS256 with a secret, else what fits the key",
    )
    jwt_issuer: str = ts.option(default="", help="required `iss`; empty checks none")
    jwt_audience: str = ts.option(default="", help="required `aud`; empty checks none")
    jwt_leeway_seconds: float = ts.option(
        default=0.0, validator=v.ge(0), help="clock skew allowed in `exp` [s]"
    )
    ticket_ttl_seconds: int = ts.option(
        default=30, validator=v.ge(1), help="life of a one-time ticket [s]"
    )
    max_tickets_per_user: int = ts.option(
        default=100, validator=v.ge(0), help="tickets of a user that wait to be used"
    )
    demo_login: bool = ts.option(
        default=False,
        help="the page may mint tokens without a scope, for this machine's own users; "
        "only while the secret is generated, host is loopback and no proxy is trusted",
    )


@attrs.frozen(kw_only=True, slots=False)
class ConnectionSettings(Group):
    """Bounds of TCP connections and of HTTP requests.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Connections"

    devices_kept_per_user: int = ts.option(
        default=20, validator=v.ge(0), help="connections remembered of a user; 0: none"
    )
    devices_kept_seconds: int = ts.option(
        default=86400, validator=v.ge(1), help="how long they are remembered after the last one [s]"
    )
    max_connections_per_user: int = ts.option(
        default=50,
        validator=[v.ge(0), v.le(MOST_CONNECTIONS_PER_USER)],
        help="open sockets and streams a user",
    )
    max_connections_per_address: int = ts.option(
        default=1000, validator=v.ge(0), help="open sockets and streams an address"
    )
    max_connections: int = ts.option(
        default=0, validator=v.ge(0), help="open sockets and streams a process"
    )
    max_sockets: int = ts.option(
        default=0,
        validator=v.ge(0),
        help="open TCP connections a process besides; file descriptors bound them in any case",
    )
    max_sockets_per_address: int = ts.option(
        default=2000,
        validator=v.ge(0),
        help="open TCP connections an address besides; not behind a trusted proxy",
    )
    header_timeout_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="how long a request's headers may take to come [s]"
    )
    idle_timeout_seconds: float = ts.option(
        default=75.0, validator=v.ge(0), help="how long a connection may rest between requests [s]"
    )
    body_timeout_seconds: float = ts.option(
        default=60.0, validator=v.ge(0), help="how long a request's body may take to come [s]"
    )
    request_timeout_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="how long an answer may take, without the body [s]"
    )
    max_header_bytes: int = ts.option(
        default=16384, validator=v.ge(0), help="largest head of a request [B]"
    )
    requests_per_second: float = ts.option(
        default=100.0, validator=v.ge(0), help="HTTP requests an address [1/s]"
    )
    max_body_bytes: int = ts.option(
        default=1048576, validator=v.ge(0), help="largest request body [B]"
    )
    peer_timeout_seconds: float = ts.option(
        default=60.0,
        validator=v.ge(0),
        help="how long what was sent may stay unacknowledged by a peer [s]; Linux",
    )


@attrs.frozen(kw_only=True, slots=False)
class StreamSettings(Group):
    """Bounds and paces of WebSockets and event streams, and of what they follow.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "WebSockets and event streams"

    ws_heartbeat_seconds: float = ts.option(
        default=30.0,
        validator=[v.ge(0), v.le(DAY_SECONDS)],
        help="interval of WebSocket heartbeats [s]",
    )
    sse_heartbeat_seconds: float = ts.option(
        default=10.0,
        validator=[v.ge(0), v.le(DAY_SECONDS)],
        help="interval of event-stream heartbeats [s]",
    )
    sse_error_event: str = ts.option(
        default="problem",
        validator=_matching(r"[a-z_]{1,64}", "must have 1 to 64 of a-z and _"),
        help="name of our errors on event streams; browsers take `error` for a lost connection",
    )
    max_message_bytes: int = ts.option(
        default=65536, validator=v.ge(125), help="largest frame that a client may send [B]"
    )
    max_messages_per_second: float = ts.option(
        default=100.0,
        validator=v.ge(0),
        help="messages and pings read of one WebSocket; more of them wait [1/s]",
    )
    max_topics_per_connection: int = ts.option(
        default=100, validator=v.ge(0), help="topics on one connection of /api/ws or /api/stream"
    )
    topic_history: int = ts.option(
        default=100, validator=v.ge(1), help="messages kept of each topic of the application"
    )
    topic_history_seconds: float = ts.option(
        default=86400.0, validator=v.ge(1), help="how long they are kept after the last one [s]"
    )
    topic_message_bytes: int = ts.option(
        default=65536, validator=v.ge(0), help="largest message of an application's topic [B]"
    )
    max_pending_bytes: int = ts.option(
        default=1048576, validator=v.ge(0), help="what may wait for a slow reader [B]"
    )
    websocket_compression: bool = ts.option(
        default=False, help="permessage-deflate: fewer bytes for more processor time"
    )
    replay_limit: int = ts.option(
        default=500, validator=v.ge(1), help="most messages that a resume replays"
    )


@attrs.frozen(kw_only=True, slots=False)
class QueueSettings(Group):
    """Order, limits and memory of the queue.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Queue"

    queue_name: str = ts.option(
        default="rtq",
        validator=_matching(r"[A-Za-z0-9_-]{1,64}", "must have 1 to 64 letters, digits, _ and -"),
        help="prefix of queue keys",
    )
    queue_order: QueueOrder = ts.option(
        default=QueueOrder.FIFO, help="FIFO over all users, or FAIR turns between users"
    )
    queue_user_limit: int = ts.option(default=3, validator=v.ge(0), help="running tasks a user")
    queue_global_limit: int = ts.option(default=3, validator=v.ge(0), help="running tasks in all")
    queue_max_waiting_per_user: int = ts.option(
        default=1000, validator=v.ge(0), help="waiting tasks a user"
    )
    queue_max_batch: int = ts.option(default=100, validator=v.ge(0), help="most tasks in one batch")
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
    queue_retry_spread: float = ts.option(
        default=0.5,
        validator=[v.ge(0), v.le(1)],
        help="share of a wait before a retry that is random: it ends so much earlier at most",
    )
    queue_upkeep_seconds: float = ts.option(
        default=30.0,
        validator=[v.gt(0), v.le(DAY_SECONDS)],
        help="how often the queue is looked after while nothing is known to fall due [s]",
    )
    queue_idempotency_seconds: float = ts.option(
        default=86400.0, validator=v.gt(0), help="how long an Idempotency-Key is remembered [s]"
    )
    queue_retention_seconds: float = ts.option(
        default=604800.0, validator=v.ge(0), help="how long ended tasks are kept [s]; 0: forever"
    )
    queue_kept_per_user: int = ts.option(
        default=1000,
        validator=v.ge(0),
        help="ended tasks kept a user, and as many dead ones and ended batches",
    )
    queue_history_sorts: int = ts.option(
        default=2000,
        validator=v.ge(0),
        help="sorts of tasks (kind, plan, telling parameters) whose times are kept; 0: any number",
    )
    schedules_per_user: int = ts.option(default=100, validator=v.ge(0), help="schedules of a user")
    queue_idempotency_keys_per_user: int = ts.option(
        default=1000, validator=v.ge(0), help="Idempotency-Keys remembered a user"
    )


@attrs.frozen(kw_only=True, slots=False)
class TaskSettings(Group):
    """Bounds of a task."""

    title: ClassVar[str] = "Tasks"

    task_events: int = ts.option(
        default=256,
        validator=v.ge(1),
        help="messages kept of each task, batch, and user's list of tasks for replay",
    )
    task_params_bytes: int = ts.option(
        default=65536, validator=v.ge(0), help="largest parameters of a task as JSON [B]"
    )
    task_label_length: int = ts.option(
        default=200, validator=v.ge(0), help="longest label of a task [characters]"
    )
    task_key_length: int = ts.option(
        default=200, validator=v.ge(0), help="longest key of a task [characters]"
    )
    task_max_tags: int = ts.option(default=20, validator=v.ge(0), help="tags of a task")
    task_tag_length: int = ts.option(
        default=64, validator=v.ge(0), help="longest tag of a task [characters]"
    )
    task_max_delay_seconds: float = ts.option(
        default=2592000.0, validator=v.ge(0), help="longest delay of a task [s]"
    )
    task_max_timeout_seconds: float = ts.option(
        default=2592000.0,
        validator=v.ge(0),
        help="longest timeout and budget that a task may bring [s]",
    )
    task_max_attempts: int = ts.option(
        default=100, validator=v.ge(0), help="most attempts that a task may bring"
    )
    task_timeout_seconds: float = ts.option(
        default=0.0, validator=v.ge(0), help="longest run of a handler [s]"
    )
    task_result_bytes: int = ts.option(
        default=262144, validator=v.ge(0), help="largest result of a task as JSON [B]"
    )


@attrs.frozen(kw_only=True, slots=False)
class WorkerSettings(Group):
    """Workers: inside the server, in a process of their own, and elsewhere.

    It is wide because each setting of the group is a field.
    """

    title: ClassVar[str] = "Workers"

    worker_concurrency: int = ts.option(
        default=3, validator=v.ge(0), help="tasks run inside the server; 0: no worker in it"
    )
    kinds: list[str] = ts.option(
        default=[],
        converter=_listed,
        help="modules, or paths of Python files, with kinds of tasks, commas between",
    )
    worker_handler: str = ts.option(
        default=f"{BESIDE}examples.stock_analysis:analyse",
        help="MODULE:FUNCTION that runs the kind analysis; empty does not offer it",
    )
    worker_port: int = ts.option(
        default=0,
        validator=[v.ge(0), v.le(65535)],
        help="port of a worker process for /healthz, /readyz and /metrics; 0: none",
    )
    worker_processes: bool = ts.option(
        default=False, help="run each task in a process of its own, for handlers that compute"
    )
    worker_grace_seconds: float = ts.option(
        default=10.0, validator=v.ge(0), help="time that running tasks get at a stop [s]"
    )
    remote_workers: int = ts.option(
        default=1000,
        validator=v.ge(0),
        help="workers elsewhere that one process serves, connected or waiting; 0: none",
    )
    remote_slots: int = ts.option(
        default=1000, validator=v.ge(1), help="tasks that a worker elsewhere takes at once"
    )
    remote_kinds: int = ts.option(
        default=100, validator=v.ge(1), help="kinds that a worker elsewhere may name"
    )
    remote_items: int = ts.option(
        default=1000, validator=v.ge(1), help="items of one message of a worker elsewhere"
    )
    remote_frame_bytes: int = ts.option(
        default=4194304, validator=v.ge(65536), help="largest message of a worker elsewhere [B]"
    )
    remote_wait_seconds: float = ts.option(
        default=30.0, validator=v.ge(0), help="longest wait of a claim over HTTP [s]"
    )
    remote_return_seconds: float = ts.option(
        default=30.0,
        validator=v.ge(1),
        help="time that a worker elsewhere has to come back when its connection is lost [s]",
    )
    step_seconds: float = ts.option(
        default=1.0, validator=v.ge(0), help="how long each step of the example lasts [s]"
    )


@attrs.frozen(kw_only=True, slots=False)
class NotificationSettings(Group):
    """Notifications: how many are kept, for how long, and in which language."""

    title: ClassVar[str] = "Notifications"

    notification_quota: int = ts.option(
        default=1000, validator=v.ge(0), help="notifications kept a user"
    )
    notification_ttl_days: int = ts.option(
        default=90, validator=v.ge(1), help="age at which a notification goes [days]"
    )
    notification_types: str = ts.option(
        default="",
        help="types of notifications with their texts: JSON, or the path of a JSON or TOML file",
    )
    notification_templates: str = ts.option(
        default="", help="TOML file, or folder of them, with templates of notifications"
    )
    locales: str = ts.option(
        default="",
        help="folder of PO files, as de.po: texts of tasks and of the server in more languages",
    )
    default_locale: str = ts.option(
        default="en",
        validator=_matching(
            r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,8}", "must be a language tag such as en or de-AT"
        ),
        help="language of texts for users who have chosen none",
    )


@attrs.frozen(kw_only=True, slots=False)
class CallbackSettings(Group):
    """Deliveries to callbacks and webhooks."""

    title: ClassVar[str] = "Callbacks and webhooks"

    callback_allow_private: bool = ts.option(
        default=False,
        help="callbacks and webhooks may reach this machine, private networks and the like",
    )
    callback_waiting_per_user: int = ts.option(
        default=1000, validator=v.ge(0), help="deliveries of a user that wait, of any kind"
    )
    webhooks_per_user: int = ts.option(
        default=20, validator=v.ge(0), help="webhooks of a user, and of the application"
    )
    delivery_concurrency: int = ts.option(
        default=16,
        validator=v.ge(0),
        help="deliveries under way in a process at once; 0: it delivers nothing",
    )
    delivery_per_user: int = ts.option(
        default=4, validator=v.ge(0), help="deliveries of a user under way at once"
    )
    delivery_per_host: int = ts.option(
        default=8, validator=v.ge(0), help="deliveries to one host under way at once"
    )
    delivery_timeout_seconds: float = ts.option(
        default=15.0, validator=v.gt(0), help="how long a receiver may take to answer [s]"
    )
    delivery_retry_scale: float = ts.option(
        default=1.0,
        validator=v.ge(0),
        help="what the waits between the attempts of a delivery, 23.7 hours in all, are times",
    )
    delivery_retry_spread: float = ts.option(
        default=0.2,
        validator=[v.ge(0), v.le(1)],
        help="share by which these waits are longer or shorter at random",
    )
    delivery_kept_per_user: int = ts.option(
        default=100, validator=v.ge(0), help="ended deliveries kept a user, to be repeated by hand"
    )
    delivery_retention_seconds: float = ts.option(
        default=259200.0, validator=v.ge(0), help="how long ended deliveries are kept [s]"
    )


@attrs.frozen(kw_only=True, slots=False)
class PushSettings(Group):
    """Web Push (RFC 8030, RFC 8292)."""

    title: ClassVar[str] = "Push"

    vapid_private_key: str = ts.secret(
        default="", help="key that pushes are signed with: 32 bytes of P-256, in base64url"
    )
    vapid_private_key_file: str = ts.option(
        default="", help="PEM file of that key; with neither one is made in the data folder"
    )
    vapid_subject: str = ts.option(
        default="",
        validator=_matching(
            r"(|mailto:[^\s@]+@[^\s@]+|https://[^\s/]+\S*)", "must be a mailto: or https: address"
        ),
        help="address of the operator that push services are told: mailto: or https:",
    )
    push_subscriptions_per_user: int = ts.option(
        default=20, validator=v.ge(0), help="browsers of a user that are pushed to"
    )
    push_ttl_seconds: float = ts.option(
        default=86400.0,
        validator=v.ge(0),
        help="how long a push waits for a browser that is away [s]",
    )


@attrs.frozen(kw_only=True, slots=False)
class EmailSettings(Group):
    """Mail about unread notifications."""

    title: ClassVar[str] = "Mail"

    smtp_url: str = ts.secret(
        default="",
        validator=_check_smtp_url,
        help="mail server, as smtp://user:password@host:587; empty sends no mail",
    )
    smtp_from: str = ts.option(
        default="",
        validator=_matching(rf"(|{MAILBOX})", "must be an address as news@app.example"),
        help="address that mail comes from",
    )
    email_delay_seconds: float = ts.option(
        default=900.0, validator=v.ge(0), help="how long a notification is unread before mail [s]"
    )
    email_secret: str = ts.secret(
        default="",
        help="HMAC secret of links in mail, 32 bytes or more; empty makes one in the data folder",
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.smtp_url and not self.smtp_from:
            raise ValueError("smtp_from: name the address that mail comes from")


@attrs.frozen(kw_only=True, slots=False)
class WrittenSettings(
    ServerSettings,
    TracingSettings,
    StoreSettings,
    AuthSettings,
    ConnectionSettings,
    StreamSettings,
    QueueSettings,
    TaskSettings,
    WorkerSettings,
    NotificationSettings,
    CallbackSettings,
    PushSettings,
    EmailSettings,
):
    """All settings side by side, as the command line, the environment and a file have them."""


@attrs.frozen(init=False)
class Settings:
    """The configuration of one process, in groups; durations are seconds, sizes bytes.

    A setting has one name everywhere: `settings.server.port` is `--port` and `RT_PORT`.
    `Settings(port=0)` and `settings.changed(port=0)` take settings by these names.

    It is wide because it has a field for each group.
    """

    server: ServerSettings
    tracing: TracingSettings
    stores: StoreSettings
    auth: AuthSettings
    connections: ConnectionSettings
    streams: StreamSettings
    queue: QueueSettings
    tasks: TaskSettings
    workers: WorkerSettings
    notifications: NotificationSettings
    callbacks: CallbackSettings
    push: PushSettings
    email: EmailSettings

    def __init__(self, **values: Any) -> None:
        """Take settings, and groups whole; what is not named has its default.

        Raise TypeError for a name that no setting has, and ValueError for a bad value.
        """
        made: dict[str, Any] = {}
        for name, group in groups().items():
            own = {one: values.pop(one) for one in names_of(group) & values.keys()}
            whole = values.pop(name, None)
            made[name] = group(**own) if whole is None else attrs.evolve(whole, **own)
        if values:
            raise TypeError(f"no setting has the name {', '.join(sorted(values))}")
        self.__attrs_init__(**made)

    @classmethod
    def of(cls, written: WrittenSettings) -> "Settings":
        """Return them in groups."""
        return cls(**attrs.asdict(written, recurse=False))

    def changed(self, **values: Any) -> "Settings":
        """Return a copy with other values of the settings of these names."""
        return Settings(**attrs.asdict(self, recurse=False), **values)

    def value(self, name: str) -> Any:
        """Return the setting of this name. Raise KeyError."""
        for group in attrs.asdict(self, recurse=False).values():
            if name in names_of(type(group)):
                return getattr(group, name)
        raise KeyError(name)


def default(name: str) -> Any:
    """Return the default of the setting of this name. Raise AttributeError."""
    return getattr(attrs.fields(WrittenSettings), name).default


def groups() -> dict[str, type[Group]]:
    """Return the classes of the groups by their names in `Settings`."""
    return {field.name: field.type for field in attrs.fields(Settings) if field.type is not None}


def names_of(group: type[Group]) -> set[str]:
    """Return the names of the settings of a group."""
    return {field.name for field in attrs.fields(group)}


def loaders() -> list[Loader]:
    """Return where settings come from, weakest first: the TOML file, then the environment.

    Raise ValueError when the file cannot be read.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        _check_config(named)
    toml = ts.FileLoader(files=[named] if named else [], formats={"*": ts.TomlFormat(CONFIG_TABLE)})
    return [toml, ts.EnvLoader(prefix=ENV_PREFIX)]


def _check_config(path: str) -> None:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file).get(CONFIG_TABLE, {})
    except OSError as error:
        raise ValueError(f"{CONFIG_VARIABLE}: {path}: {(error.strerror or '').lower()}") from None
    except ValueError as error:
        raise ValueError(f"{CONFIG_VARIABLE}: {path}: is not TOML: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{CONFIG_VARIABLE}: {path}: {CONFIG_TABLE} is not a table")


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables with our prefix that no setting has, each with the likeliest meant."""
    known = [ENV_PREFIX + field.name.upper() for field in attrs.fields(WrittenSettings)]
    strange = [
        name
        for name in sorted(environment)
        if name.startswith(ENV_PREFIX) and name not in known and not OTHER_VARIABLES.fullmatch(name)
    ]
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), "") for name in strange}


def stop_seconds(settings: Settings) -> float:
    """Return how long what is under way may hold up a stop."""
    return (
        settings.server.request_grace_seconds
        + settings.server.drain_seconds
        + settings.workers.worker_grace_seconds
    )


def has_sampler() -> bool:
    """Say whether OpenTelemetry's own variable names which traces are recorded."""
    return bool(os.environ.get(SAMPLER_VARIABLE))


def metrics_folder() -> str:
    """Return the folder of metrics that the client library shares with others, "" for none."""
    return os.environ.get(METRICS_FOLDER, "")


def asked_server() -> tuple[str, str]:
    """Return the address and the token that the environment has for a client, "" for none."""
    return os.environ.get(URL_VARIABLE, ""), os.environ.get(TOKEN_VARIABLE, "")


def environment_with(**settings: str) -> dict[str, str]:
    """Return our environment with some settings in it, for a child process of ours."""
    named = {ENV_PREFIX + name.upper(): value for name, value in settings.items()}
    return {**os.environ, **named}


def converter() -> TSConverter:
    """Return what reads texts as settings; a list is written with commas."""
    made = TSConverter(resolve_paths=False, strlist_sep=",")
    read = made.scalar_converters
    read[int] = partial(_read_number, words="must be a whole number")
    read[float] = partial(_read_number, words="must be a number")
    read[bool] = partial(_read_truth, read[bool])
    read[StrEnum] = _read_choice
    return made


def _read_number(value: Any, kind: type[T], *, words: str) -> T:
    allowed = (str, int, float) if kind is float else (str, int)
    try:
        if isinstance(value, allowed) and not isinstance(value, bool):
            return kind(value)  # type: ignore[call-arg]
    except (ValueError, OverflowError):
        pass
    raise ValueError(words)


def _read_truth(read: Callable[[Any, type[bool]], bool], value: Any, kind: type[bool]) -> bool:
    try:
        return read(value, kind)
    except (ValueError, TypeError):
        raise ValueError("must be true or false") from None


def _read_choice(value: Any, kind: type[E]) -> E:
    for one in kind:
        if str(value).lower() == one.lower():
            return one
    raise ValueError(f"must be one of {', '.join(kind)}")


def load_settings() -> Settings:
    """Read the settings without a command line. Raise `ts.exceptions.TsError` for a bad value."""
    return Settings.of(ts.load_settings(WrittenSettings, loaders(), converter=converter()))
