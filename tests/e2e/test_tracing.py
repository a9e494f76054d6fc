"""Spans, as a collector on this machine gets them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.conftest import Weights
from tests.e2e.process import clean_environment, running
from tests.tiny_models import png, random_picture

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Span] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str | int]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def test_a_request_is_a_span_of_its_callers_trace(
    models: tuple[Path, Weights], collector: Collector
) -> None:
    environment = clean_environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_COMPRESSION="none"
    )
    headers = {"content-type": "image/png", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    unsampled = {**headers, "traceparent": f"00-{'a' * 32}-{PARENT}-00"}
    content = png(random_picture(0))
    options = ("--models", str(models[0]), "--access-log", "true", "--log-format", "json")
    with running(*options, environment=environment) as server:
        url = f"{server.url}/models/zero/predict"
        httpx.post(url, content=content, headers=headers, timeout=30).raise_for_status()
        httpx.post(url, content=content, headers=unsampled, timeout=30).raise_for_status()
        assert httpx.get(f"{server.url}/none", timeout=30).status_code == 404
        assert server.stop() == 0  # what is left is sent

    spans = {span.name: span for span in collector.spans}
    request = spans["POST /models/{name}/predict"]
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    assert f'"span_id":"{request.span_id.hex()}"' in "".join(server.log)
    said = attributes(request)
    assert said["http.route"] == "/models/{name}/predict"
    assert said["http.response.status_code"] == 200
    assert (said["logitserve.model"], said["logitserve.version"]) == ("zero", "1")
    for part in ("decode", "queue", "inference"):
        assert spans[part].trace_id == request.trace_id
        assert spans[part].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[part].start_time_unix_nano
        assert spans[part].end_time_unix_nano <= request.end_time_unix_nano
    other = spans["GET other"]
    assert not other.parent_span_id
    assert other.status.code == Status.STATUS_CODE_UNSET
    assert "a" * 32 not in {span.trace_id.hex() for span in collector.spans}


def test_without_a_collector_nothing_of_it_is_imported(models: tuple[Path, Weights]) -> None:
    environment = clean_environment(PYTHONVERBOSE="1")
    with running("--models", str(models[0]), environment=environment) as server:
        httpx.get(f"{server.url}/models", timeout=30).raise_for_status()
    log = "".join(server.log)
    assert "import 'logitserve_service.telemetry.tracing'" in log
    assert "opentelemetry.sdk" not in log
