"""A span a request for OpenTelemetry, where its standard variables name a collector.

Spans are made when the answer has been given, from what was measured anyway, so that a request pays
nothing before that; without the variables nothing of OpenTelemetry is even imported.
"""

import logging
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.types import Scope

from logitserve_service.telemetry.access_log import Headers
from logitserve_service.telemetry.request_ids import Identity

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_PARTS = re.compile(rb"(\w+);dur=([\d.]+)")

logger = logging.getLogger("logitserve.tracing")


def tracing() -> "Tracing | None":
    """What the environment asks for; None where it asks for nothing, or the extra is missing."""
    named = [variable for variable in ENDPOINT_VARIABLES if os.environ.get(variable)]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError:
        logger.warning(
            "%s is set, but OpenTelemetry is not installed, and nothing is sent; install it with "
            "pip install 'logitserve[otel]'",
            named[0],
        )
        return None

    class Ids(RandomIdGenerator):
        """Lets a span have the id that the log has already said."""

        said: int | None = None

        def generate_span_id(self) -> int:
            """The id that was said, once, else one at random."""
            said, self.said = self.said, None
            return said or super().generate_span_id()

    ids = Ids()
    resource = Resource({SERVICE_NAME: "logitserve"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, ids)


class Tracing:
    """Makes spans of answers."""

    def __init__(self, provider: "TracerProvider", ids: Any) -> None:
        self._provider = provider
        self._ids = ids
        self._tracer = provider.get_tracer("logitserve")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send spans as long as the context lasts, and what is left at its end."""
        try:
            yield
        finally:
            await to_thread.run_sync(self._provider.shutdown)

    def answered(
        self,
        scope: Scope,
        identity: Identity,
        attributes: dict[str, Any],
        *,
        seconds: float,
        headers: Headers,
    ) -> None:
        """Make the span of an answer that was given just now, and those of its parts.

        Args:
            scope: of the request.
            identity: of the request.
            attributes: of the span; `http.route` and `http.response.status_code` among them.
            seconds: since the request began.
            headers: of the answer.
        """
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        end = time.time_ns()
        begun = end - round(seconds * 1e9)
        request_id, trace = identity
        if trace is not None:
            self._ids.said = int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"{scope['method']} {attributes['http.route']}",
            context=_context(identity),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "logitserve.request_id": request_id.decode(),
                **attributes,
            },
            start_time=begun,
        )
        within = set_span_in_context(span)
        # How long each part took was measured, but not when it began: they are laid end to end.
        for name, duration in _parts(headers):
            part = self._tracer.start_span(name, context=within, start_time=begun)
            begun += round(duration * 1e6)
            part.end(min(begun, end))
        if attributes["http.response.status_code"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        span.end(end)


def _context(identity: Identity) -> Any:
    """The caller's span, of which ours is a part; an empty context where there is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    _, trace = identity
    if trace is None:
        return Context()
    parent = SpanContext(
        int(trace.trace_id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT),
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _parts(headers: Headers) -> list[tuple[str, float]]:
    """What `Server-Timing` says, in milliseconds."""
    for name, value in headers:
        if name == b"server-timing":
            return [(part.decode(), float(spent)) for part, spent in _PARTS.findall(value)]
    return []
