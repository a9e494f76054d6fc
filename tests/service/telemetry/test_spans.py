"""Spans of responses, and of their steps."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.request_ids import Trace
from logitserve_service.telemetry.spans import Spans
from logitserve_service.telemetry.timing import Timing
from logitserve_service.telemetry.tracing import tracing
from tests.service.telemetry.conftest import exchange

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "c" * 16, sampled=True)

pytestmark = pytest.mark.anyio


async def spans_of(given: Exchange) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    async with spans.running():
        spans.add(given, 0.004)
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_span_of_the_callers_trace() -> None:
    timing = Timing(preprocessing=0.001, queue=0.0005, inference=60.0, output=1.0)
    spans = await spans_of(exchange(identity=(b"id-1", TRACE), timing=timing))
    assert list(spans) == ["queue", "decode", "inference", "output", "POST /models/{name}/predict"]
    request = spans["POST /models/{name}/predict"]
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:x}" == TRACE.trace_id
    assert f"{request.parent.span_id:016x}" == TRACE.parent_id
    assert f"{request.context.span_id:x}" == TRACE.span_id
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/models/{name}/predict",
        "http.response.status_code": 200,
        "client.address": "127.0.0.1",
        "logitserve.request_id": "id-1",
        "logitserve.model": "tiny",
        "logitserve.version": "3",
    }
    assert request.start_time is not None
    assert request.end_time is not None
    assert request.end_time - request.start_time == 4_000_000
    begun = request.start_time
    for name, nanoseconds in (
        ("queue", 500_000),
        ("decode", 1_000_000),
        ("inference", 2_500_000),
        ("output", 0),
    ):
        part = spans[name]
        assert part.parent == request.context
        assert (part.start_time, part.end_time) == (begun, begun + nanoseconds)
        begun += nanoseconds


async def test_a_failure_without_a_model() -> None:
    failed = exchange(route="other", model="", version="", status=500)
    ((name, span),) = (await spans_of(failed)).items()
    assert name == "POST other"
    assert span.parent is None
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert not {"logitserve.model", "logitserve.version"} & span.attributes.keys()


async def test_what_the_caller_does_not_sample_is_not_sent() -> None:
    assert await spans_of(exchange(identity=(b"id-1", TRACE._replace(sampled=False)))) == {}


@pytest.mark.parametrize("disabled", [False, True])
async def test_only_where_the_environment_names_a_collector(
    monkeypatch: pytest.MonkeyPatch, *, disabled: bool
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracing() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", str(disabled))
    spans = tracing()
    assert (spans is None) == disabled
    if spans is not None:
        async with spans.running():
            pass
