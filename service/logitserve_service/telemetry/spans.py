"""One span per request, made after its response; needs the extra `otel`."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from anyio import to_thread
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.request_ids import Trace


class _Ids(RandomIdGenerator):
    """Generates span ids, but uses the id in the log for the span of a request."""

    logged: int | None = None

    def generate_span_id(self) -> int:
        """Return the logged id once, and random ids otherwise."""
        logged, self.logged = self.logged, None
        return logged or super().generate_span_id()


class Spans:
    """Creates spans and exports them."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """Use an exporter; the default is OTLP over HTTP, configured by environment variables."""
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource({SERVICE_NAME: "logitserve"}).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("logitserve")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Export the remaining spans at the end of the context."""
        try:
            yield
        finally:
            await to_thread.run_sync(self._provider.shutdown)

    def add(self, exchange: Exchange, seconds: float) -> None:
        """Create the span of a response that was just sent, and spans of its steps."""
        end = time.time_ns()
        begun = end - round(seconds * 1e9)
        request_id, trace = exchange.identity
        self._ids.logged = None if trace is None else int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.route}",
            context=_parent(trace),
            kind=api.SpanKind.SERVER,
            attributes={
                "http.request.method": exchange.method,
                "http.route": exchange.route,
                "http.response.status_code": exchange.status,
                "logitserve.request_id": request_id.decode(),
                **({"client.address": exchange.client} if exchange.client else {}),
                **({"logitserve.model": exchange.model} if exchange.model else {}),
                **({"logitserve.version": exchange.version} if exchange.version else {}),
            },
            start_time=begun,
        )
        if (timing := exchange.timing) is not None:
            within = api.set_span_in_context(span)
            # The start of a step is not measured; the steps are placed one after the other.
            steps = timing.queue, timing.preprocessing, timing.inference, timing.output
            for name, step in zip(("queue", "decode", "inference", "output"), steps, strict=True):
                part = self._tracer.start_span(name, context=within, start_time=begun)
                begun = min(begun + round(step * 1e9), end)
                part.end(begun)
        if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(api.StatusCode.ERROR)
        span.end(end)


def _parent(trace: Trace | None) -> Context:
    """Return the caller's span as a context."""
    if trace is None:
        return Context()
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if trace.sampled else api.TraceFlags.DEFAULT)
    parent = api.SpanContext(
        int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=flags
    )
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())
