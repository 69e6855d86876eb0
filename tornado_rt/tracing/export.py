"""Exports spans by OTLP over HTTP, in a thread: nobody waits for a collector.

Endpoint, headers, resource, sampler, limits and batches are set by the variables `OTEL_*` that
OpenTelemetry's SDK reads, such as OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER.
"""

import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Sequence

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, ParentBasedTraceIdRatio
from opentelemetry.trace import ProxyTracerProvider

from settings import Settings, has_sampler
from tornado_rt import __version__
from tornado_rt.tracing.recorder import SpanRecorder
from tornado_rt.work.attempts.spans import SYSTEM
from tornado_rt.work.attempts.threads import in_thread

log = structlog.get_logger(__name__)

# The share of new traces that is recorded where OTEL_TRACES_SAMPLER says nothing. To record all
# takes more time than traces may: see benchmarks/results/traces.md.
RATIO = 0.1
# These would log each batch that is lost, and each retry.
LOUD = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")


@contextlib.asynccontextmanager
async def exporting(settings: Settings) -> AsyncIterator[SpanRecorder]:
    """Export what the recorder records, until the block ends.

    Where the program has set a provider of its own, spans go there, and are its own to export.
    """
    host = trace.get_tracer_provider()
    is_free = isinstance(host, ProxyTracerProvider | _OwnProvider)
    exports = Exports() if is_free else None
    tracer = (exports.provider if exports else host).get_tracer(SYSTEM, __version__)
    try:
        yield SpanRecorder(
            tracer,
            names_users=settings.tracing.traces_users,
            # A sampler of a host may decide otherwise for a child; those that the variables name
            # do not.
            follows_parents=exports is not None
            and isinstance(exports.provider.sampler, ParentBased),
        )
    finally:
        if exports is not None:
            seconds = settings.tracing.traces_flush_seconds
            await in_thread(lambda: exports.close(seconds), "traces-flush")


class Exports:
    """Exports the spans of this process, also those that handlers make, until it is closed.

    An export with its repetitions takes `most_seconds`, None: as OpenTelemetry's variables say.
    `tells`: that spans are lost is logged, once.
    """

    def __init__(self, most_seconds: float | None = None, *, tells: bool = True) -> None:
        for name in LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._tells = tells
        self.provider = _OwnProvider.of_process()
        self._exporter = _Exporter(most_seconds, tells=tells)
        # A span that ends while 2,048 wait is lost; OTEL_BSP_MAX_QUEUE_SIZE changes that.
        self._processor = BatchSpanProcessor(self._exporter)
        self.provider.switch.processor = self._processor

    def close(self, seconds: float) -> None:
        """Export what is left, for these seconds at most."""
        self.provider.switch.processor = None
        # It has no time of its own to keep, and a thread that is no daemon would hold the process.
        ending = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            if self._tells:
                log.warning("traces_not_flushed", seconds=seconds)
            self._exporter.shutdown()


class _Switch(SpanProcessor):
    """Hands ended spans to a processor, while there is one."""

    processor: SpanProcessor | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """Hand it on."""
        if self.processor is not None:
            self.processor.on_end(span)


class _OwnProvider(TracerProvider):
    """The provider of this process, for a process may set one only once."""

    _made: "_OwnProvider | None" = None

    def __init__(self) -> None:
        sampler = None if has_sampler() else ParentBasedTraceIdRatio(RATIO)
        super().__init__(sampler, _resource(), shutdown_on_exit=False)
        self.switch = _Switch()
        self.add_span_processor(self.switch)

    @classmethod
    def of_process(cls) -> "_OwnProvider":
        """Return it; handlers find it by OpenTelemetry's own API."""
        if cls._made is None:
            cls._made = cls()
            trace.set_tracer_provider(cls._made)
        return cls._made


class _Exporter(SpanExporter):
    """Exports by OTLP; it `tells` once that spans are lost, and that they arrive again."""

    def __init__(self, most_seconds: float | None, *, tells: bool) -> None:
        self._inner = OTLPSpanExporter(timeout=most_seconds)
        self._tells = tells
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export some, or lose them."""
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if self._tells:
            self._tell(failed)
        self._is_failing = failed
        return result

    def _tell(self, failed: bool) -> None:
        if failed and not self._is_failing:
            log.warning(
                "traces_lost",
                advice="the collector does not take them: see OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        elif self._is_failing and not failed:
            log.info("traces_arrive_again")

    def shutdown(self) -> None:
        """End, also an export that waits to be repeated."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def _resource() -> Resource:
    """Return what all spans say of this process; what OTEL_RESOURCE_ATTRIBUTES says comes first."""
    told = Resource.create()
    if str(told.attributes["service.name"]).startswith("unknown_service"):
        told = told.merge(Resource({"service.name": SYSTEM}))
    own = {"service.version": __version__, "service.instance.id": secrets.token_hex(8)}
    # The last of several equal names counts.
    return Resource(own).merge(told)
