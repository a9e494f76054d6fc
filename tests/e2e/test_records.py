"""What surrounds a response: ids, header fields, the log line, the count, and the span."""

import json
import secrets
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.collector import Collector, attributes
from tests.e2e.metrics import series, total, wait_until
from tests.e2e.process import Server
from tests.e2e.profiles import FRIEND
from tests.e2e.sockets import begun
from tests.forms import FORMS, HTTP_FORMS, Ask, Fields, Form, Reply
from tests.tiny_models import random_picture

IMAGE = random_picture(0)
PARENT = "00f067aa0ba902b7"
CALLER = "203.0.113.9"
PARTS = ("decode", "queue", "inference", "output")

each_form = pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
each_outcome = pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        (Ask([IMAGE]), (200, "2")),
        (Ask([IMAGE], version="1"), (200, "1")),
        (Ask([IMAGE], version="9"), (404, "")),
        (Ask([IMAGE], fields=[("X-Request-Timeout-Ms", "soon")]), (400, "")),
    ],
    ids=["latest", "older", "unknown", "malformed"],
)


def route_of(form: Form, ask: Ask) -> str:
    """As it is documented."""
    return (form.by_version if ask.version else form.path).replace("{model}", "{name}")


def assert_shared(reply: Reply, request_id: str, *, exposed: bool = True) -> None:
    """What every response to a page of a named origin has."""
    assert reply.headers["x-request-id"] == request_id
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers
    assert reply.headers["access-control-allow-origin"] == FRIEND
    assert not exposed or "X-Request-ID" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in reply.headers
    assert "origin" in reply.headers["vary"].lower()


def records(server: Server, request_id: str) -> list[dict[str, Any]]:
    lines = [line for line in list(server.log) if f'"request_id":"{request_id}"' in line]
    found = [json.loads(line) for line in lines]
    return [record for record in found if record["logger"] == "logitserve.access"]


def the_record(server: Server, request_id: str) -> dict[str, Any]:
    wait_until(lambda: records(server, request_id) != [])
    (record,) = records(server, request_id)
    return record


@each_outcome
@each_form
def test_a_response_and_its_records(
    traced: Server, collector: Collector, form: Form, ask: Ask, outcome: tuple[int, str]
) -> None:
    """The outcome is the status, and the version that answered."""
    status, version = outcome
    request_id, trace_id = secrets.token_hex(8), secrets.token_hex(16)
    ids = (
        *(("X-Request-ID", request_id), ("traceparent", f"00-{trace_id}-{PARENT}-01")),
        ("X-Forwarded-For", CALLER),  # of a proxy on this machine, which is trusted
    )
    before = series(traced.url)
    reply = form.send(traced, replace(ask, fields=[*ask.fields, *ids, ("Origin", FRIEND)]))
    after = series(traced.url)
    assert reply.status == status
    assert_shared(reply, request_id)
    assert ("inference;dur=" in reply.headers.get("server-timing", "")) is (status == 200)
    assert_counted(before, after, {"route": route_of(form, ask), "status": f"{status}"})
    wait_until(lambda: any("POST" in span.name for span in collector.trace(trace_id)))
    assert_span(collector.trace(trace_id), route_of(form, ask), status, version)
    record = the_record(traced, request_id)
    assert record["route"] == route_of(form, ask)
    assert record["path"] == form.target(ask)
    assert (record["method"], record["status"]) == ("POST", status)
    assert record["bytes"] == len(reply.body)
    assert record["trace_id"] == trace_id
    assert record["span_id"] in {span.span_id.hex() for span in collector.trace(trace_id)}


def assert_counted(before: Any, after: Any, wanted: dict[str, str]) -> None:
    grown = [
        dict(labels)
        for (name, labels), number in after.items()
        if name == "logitserve_requests_total" and number > before.get((name, labels), 0)
        if dict(labels)["route"] != "/metrics"
    ]
    (counted,) = grown
    key = ("logitserve_requests_total", frozenset(counted.items()))
    assert after[key] - before.get(key, 0) == 1
    assert wanted.items() <= counted.items()
    assert counted["model"] in {"digits", ""}
    assert counted["model"] == "digits" or counted["status"] != "200"


def assert_span(spans: list[Span], route: str, status: int, version: str) -> None:
    """One span of the request, whose parts are within it."""
    named = {span.name: span for span in spans}
    assert len(named) == len(spans)
    request = named.pop(f"POST {route}")
    assert request.parent_span_id.hex() == PARENT
    said = attributes(request)
    assert (said["http.route"], said["http.response.status_code"]) == (route, status)
    assert said["client.address"] == CALLER
    if status != 200:
        assert not named
        assert "logitserve.version" not in said or said["logitserve.version"] == version
        return
    assert (said["logitserve.model"], said["logitserve.version"]) == ("digits", version)
    for part in PARTS:
        assert named[part].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= named[part].start_time_unix_nano
        assert named[part].end_time_unix_nano <= request.end_time_unix_nano


def test_a_trace_that_is_not_sampled_has_no_spans(traced: Server, collector: Collector) -> None:
    dropped, kept = secrets.token_hex(16), secrets.token_hex(16)
    for trace_id, flags in ((dropped, "00"), (kept, "01")):
        fields = [("traceparent", f"00-{trace_id}-{PARENT}-{flags}")]
        assert FORMS[0].send(traced, Ask([IMAGE], fields=fields)).status == 200
    wait_until(lambda: collector.trace(kept) != [])
    assert collector.trace(dropped) == []


def test_a_path_that_is_no_route(traced: Server, collector: Collector) -> None:
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{PARENT}-01"}
    assert traced.client.get("/none", headers=headers).status_code == 404
    wait_until(lambda: collector.trace(trace_id) != [])
    (span,) = collector.trace(trace_id)
    assert span.name == "GET other"
    assert span.status.code == Status.STATUS_CODE_UNSET


def preflight(server: Server, path: str, origin: str, *others: tuple[str, str]) -> Reply:
    asked: Fields = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-api-key,content-type,x-request-timeout-ms"),
        *others,
    ]
    response = server.client.options(path, headers=list(asked))
    return Reply(response.status_code, response.content, response.headers)


@each_form
def test_a_preflight(traced: Server, form: Form) -> None:
    path = form.target(Ask([IMAGE]))
    request_id = secrets.token_hex(8)
    reply = preflight(traced, path, FRIEND, ("X-Request-ID", request_id))
    assert reply.status in {200, 204}
    assert_shared(reply, request_id, exposed=False)
    assert the_record(traced, request_id)["status"] == reply.status


@each_form
def test_a_preflight_of_a_stranger(traced: Server, form: Form) -> None:
    request_id = secrets.token_hex(8)
    origin = "https://stranger.example"
    path = form.target(Ask([IMAGE]))
    reply = preflight(traced, path, origin, ("X-Request-ID", request_id))
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == request_id
    assert the_record(traced, request_id)["status"] == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/models", "/metrics", "/nowhere"])
def test_what_is_no_inference_has_the_same_header_fields(
    traced: Server, path: str, method: str
) -> None:
    headers = {"Origin": FRIEND, "X-Request-ID": "other-route"}
    response = traced.client.request(method, path, headers=headers)
    reply = Reply(response.status_code, response.content, response.headers)
    assert_shared(reply, "other-route")


@each_form
def test_a_client_that_goes_is_counted(server: Server, form: Form) -> None:
    route = route_of(form, Ask([IMAGE]))
    gone = {"route": route, "model": "digits", "status": "499"}
    before = total(server.url, "requests_total", headers=None, **gone)
    request_id = secrets.token_hex(8)
    begun(server, form, Ask([IMAGE], fields=[("X-Request-ID", request_id)])).close()
    wait_until(lambda: total(server.url, "requests_total", headers=None, **gone) == before + 1)
    if form.over_http:
        assert the_record(server, request_id)["status"] == 499


@pytest.mark.parametrize("form", [f for f in FORMS if not f.over_http], ids=str)
def test_a_call_of_grpc_has_its_records(traced: Server, collector: Collector, form: Form) -> None:
    request_id, trace_id = secrets.token_hex(8), secrets.token_hex(16)
    ids = [("X-Request-ID", request_id), ("traceparent", f"00-{trace_id}-{PARENT}-01")]
    assert form.send(traced, Ask([IMAGE], version="1", fields=ids)).status == 200
    record = the_record(traced, request_id)
    assert (record["route"], record["status"]) == ("ModelInfer", 200)
    wait_until(lambda: collector.trace(trace_id) != [])
    said = [attributes(span) for span in collector.trace(trace_id)]
    assert [found for found in said if found.get("logitserve.version") == "1"]
