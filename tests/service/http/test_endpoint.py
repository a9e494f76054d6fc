"""A ticket from the head of its request to its one response and its one record."""

import asyncio
import dataclasses
import gc
import gzip
import json
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitserve_service.api import predict
from logitserve_service.api.call import Codec
from logitserve_service.config.keys import Keys
from logitserve_service.errors import BodyTimeoutError, HeadTooLargeError
from logitserve_service.http.admission import MONITORING_MS
from logitserve_service.http.auth import Authenticator
from logitserve_service.http.endpoint import INLINE_BYTES, Endpoint, Ticket
from logitserve_service.http.messages import Response, pairs
from logitserve_service.telemetry.request_ids import current
from tests.service.serving import MAX_BODY, Bench, Replies, head
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.anyio

IMAGE = png(random_picture(1))
Header = tuple[bytes, bytes]


def opened(
    bench: Bench, *parts: bytes, given: Any = None, endpoint: Endpoint | None = None
) -> tuple[Ticket, Replies]:
    """A ticket with parts of a body that is not complete."""
    replies = Replies()
    ticket = (endpoint or bench.endpoint).open(given or head(), replies)
    for part in parts:
        ticket.add(part)
        ticket.proceed()
    return ticket, replies


def complete(ticket: Ticket) -> None:
    ticket.complete = True
    ticket.proceed()


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it does not come")


async def response_of(
    bench: Bench, *parts: bytes, given: Any = None, endpoint: Endpoint | None = None
) -> Response:
    ticket, replies = opened(bench, *parts, given=given, endpoint=endpoint)
    complete(ticket)
    await until(lambda: replies)
    assert (len(replies), bench.reserved) == (1, 0)
    return replies[0]


def detail(response: Response) -> str:
    return str(json.loads(response.body)["detail"])


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_a_body_in_parts(served: Bench, size: int) -> None:
    parts = [IMAGE[start : start + size] for start in range(0, len(IMAGE), size)]
    given = head("POST", "/models/tiny/predict?top_k=2", (b"x-request-id", b"mine"))
    response = await response_of(served, *parts, given=given)
    assert response.status == 200
    (prediction,) = json.loads(response.body)["predictions"]
    assert len(prediction["probabilities"]) == 2
    fields = dict(pairs(response.head))
    assert fields[b"content-length"] == b"%d" % len(response.body)
    assert fields[b"x-request-id"] == b"mine"
    assert fields[b"server-timing"].startswith(b"decode;dur=")
    (record,) = served.records
    assert (record.status, record.model, record.version) == (200, "tiny", "1")
    assert (record.route, record.size) == ("/models/{name}/predict", len(response.body))
    assert record.timing is not None


async def test_a_large_body_is_read_in_a_thread(served: Bench) -> None:
    padded = IMAGE.ljust(INLINE_BYTES + 1)
    assert (await response_of(served, padded)).status == 200
    bad = head("POST", "/predict", (b"content-type", b"application/json"))
    assert (await response_of(served, padded, given=bad)).status == 400


async def test_what_was_unpacked_is_freed_with_its_refusal(served: Bench) -> None:
    """At once: twenty of them would stay until the garbage collector comes."""
    gc.disable()
    try:
        given = head("POST", "/predict", (b"content-encoding", b"gzip"))
        ticket, replies = opened(served, gzip.compress(bytes(2 * MAX_BODY)), given=given)
        complete(ticket)
        await until(lambda: replies)
        assert replies[0].status in {413, 429}
        gone = weakref.ref(ticket)
        del ticket
        await until(lambda: gone() is None)
    finally:
        gc.enable()


async def test_a_document(served: Bench) -> None:
    response = await response_of(served, given=head("GET", "/v2/models/tiny"))
    assert (response.status, json.loads(response.body)["name"]) == (200, "tiny")
    assert [(each.route, each.model) for each in served.records] == [("/v2/models/{name}", "tiny")]


@pytest.mark.parametrize(
    ("method", "target", "fields", "status"),
    [
        ("GET", "/predict", [], 405),
        ("POST", "/predict", [(b"content-length", b"200001")], 413),
        ("POST", "/predict", [(b"content-encoding", b"br")], 415),
        ("POST", "/predict", [(b"x-request-timeout-ms", b"0")], 400),
        ("POST", "/predict", [(b"x-request-timeout-ms", b"1.5")], 400),
        ("POST", "/predict", [(b"content-type", b"a/b")] * 2, 400),
        ("GET", "/v2", [(b"authorization", b"a")] * 2, 400),
    ],
)
async def test_a_head_that_is_refused_needs_no_body(
    served: Bench, method: str, target: str, fields: list[Header], status: int
) -> None:
    ticket, replies = opened(served, given=head(method, target, *fields))
    ticket.proceed()
    assert [response.status for response in replies] == [status]
    ticket.add(b"late")
    complete(ticket)
    assert (len(replies), len(served.records), served.reserved) == (1, 1, 0)


@pytest.mark.parametrize(
    ("body", "fields", "target", "status"),
    [
        (b"broken", [], "/predict", 422),
        (b"{", [(b"content-type", b"application/json")], "/predict", 400),
        (b"", [(b"content-type", b"text/plain")], "/predict", 415),
        (IMAGE, [], "/models/none/predict", 404),
        (IMAGE, [], "/predict?topk=1", 422),
        (b"{}", [], "/v1/models/tiny:predict", 400),  # 422 in any other form
        (b"{}", [], "/v2/models/tiny/infer", 422),
    ],
)
async def test_what_the_body_shows(
    served: Bench, body: bytes, fields: list[Header], target: str, status: int
) -> None:
    response = await response_of(served, body, given=head("POST", target, *fields))
    assert response.status == status
    assert [each.status for each in served.records] == [status]


async def test_a_key_is_checked_first(served: Bench) -> None:
    authenticator = Authenticator(Keys.of_text("secret-of-the-service"), None)
    admission = dataclasses.replace(served.endpoint.admission, authenticator=authenticator)
    endpoint = dataclasses.replace(served.endpoint, admission=admission)
    for key, status in ((b"wrong", 401), (b"secret-of-the-service", 200)):
        given = head("POST", "/predict", (b"x-api-key", key))
        response = await response_of(served, IMAGE, given=given, endpoint=endpoint)
        assert response.status == status


async def test_the_budget_of_bodies(served: Bench) -> None:
    half = b"a" * (MAX_BODY // 2 + 1)
    first, _ = opened(served, half)
    _, replies = opened(served, half)
    assert [(each.status, each.close) for each in replies] == [(429, True)]
    assert served.reserved == len(half)
    opened(served, half)[0].cancel()
    _, replies = opened(served, b"a", half, half)
    assert [each.status for each in replies] == [429]
    first.cancel()
    _, replies = opened(served, half, half)
    assert [(each.status, each.close) for each in replies] == [(413, True)]
    assert served.reserved == 0


@pytest.mark.parametrize("phase", ["body", "run"])
async def test_a_deadline_of_the_request(served: Bench, phase: str) -> None:
    served.gated.gate.clear()
    given = head("POST", "/predict", (b"x-request-timeout-ms", b"20"))
    ticket, replies = opened(served, IMAGE, given=given)
    assert ticket.deadline == pytest.approx(ticket.head.begun + 0.02)
    if phase == "run":
        complete(ticket)
    await until(lambda: replies)
    assert replies[0].status == 504
    assert "within its 20 ms" in detail(replies[0])
    served.gated.gate.set()
    await until(lambda: not served.waiting)
    await asyncio.sleep(0.02)
    assert (len(replies), len(served.records), served.reserved) == (1, 1, 0)


async def test_a_cancelled_ticket_has_no_response(served: Bench) -> None:
    served.gated.gate.clear()
    running, replies = opened(served, IMAGE)
    complete(running)
    await until(served.gated.entered.is_set)
    queued, others = opened(served, IMAGE)
    complete(queued)
    document, documents = opened(served, given=head("GET", "/v2"))
    complete(document)
    for ticket in (running, queued, document, running):
        ticket.cancel()
    served.gated.gate.set()
    await until(lambda: not served.waiting)
    await asyncio.sleep(0.02)
    assert (replies, others, documents) == ([], [], [])
    assert [each.status for each in served.records] == [499] * 3
    assert served.reserved == 0


@pytest.mark.parametrize("where", ["read", "write", "thread", "document"])
async def test_an_unexpected_error(
    served: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    logged: list[str] = []

    class Ids(logging.Filter):
        def filter(self, _: logging.LogRecord) -> bool:
            logged.append(current()["request_id"])
            return True

    def fail(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(served.endpoint.documents, "_app", fail)
    codec = Codec(predict.read_file if where == "write" else fail, fail)
    monkeypatch.setattr("logitserve_service.http.endpoint.codec_of", lambda *_: codec)
    target = "/v2" if where == "document" else "/predict"
    given = head("POST", target, (b"x-request-id", b"mine"))
    filtered = Ids()
    problems = logging.getLogger("logitserve.problems")
    problems.addFilter(filtered)
    try:
        body = IMAGE.ljust(INLINE_BYTES + 1) if where == "thread" else IMAGE
        response = await response_of(served, body, given=given)
    finally:
        problems.removeFilter(filtered)
    assert response.status == 500
    assert "secret" not in response.body.decode()
    assert "secret" in caplog.text
    assert logged == ["mine"]
    assert [each.status for each in served.records] == [500]


async def test_a_refusal_before_the_admission(served: Bench) -> None:
    replies = Replies()
    ticket = served.endpoint.refuse(head("", "/"), HeadTooLargeError(1, 1), replies)
    assert not replies  # until it is its turn
    ticket.proceed()
    assert [each.status for each in replies] == [431]


STEPS = st.lists(
    st.sampled_from(["add", "large", "complete", "proceed", "expire", "fail", "cancel", "wait"]),
    max_size=10,
)
TARGETS = st.sampled_from(["/predict", "/v2/models/tiny", "/models/none/predict", "/none"])


def test_one_response_and_one_record_whatever_happens(of_module: Bench) -> None:
    async def run(method: str, target: str, steps: list[str]) -> None:
        of_module.records.clear()
        ticket, replies = opened(of_module, given=head(method, target))
        cancelled = False
        actions: dict[str, Callable[[], object]] = {
            "add": lambda: ticket.add(IMAGE),
            "large": lambda: ticket.add(b"a" * (MAX_BODY // 2)),
            "complete": lambda: complete(ticket),
            "proceed": ticket.proceed,
            "expire": ticket.expire,
            "fail": lambda: ticket.fail(BodyTimeoutError(1)),
            "cancel": ticket.cancel,
        }
        for step in steps:
            if step in ("add", "large") and ticket.complete:
                continue  # no connection does that
            if step == "wait":
                await asyncio.sleep(0.002)
            else:
                cancelled = cancelled or (step == "cancel" and not ticket.ended)
                actions[step]()
        complete(ticket)
        await until(lambda: ticket.ended and not of_module.waiting)
        await asyncio.sleep(0)
        assert len(replies) == (0 if cancelled else 1)
        assert len(of_module.records) == 1
        status = 499 if cancelled else replies[0].status
        assert of_module.records[0].status == status
        assert of_module.reserved == 0

    @settings(max_examples=60)
    @given(st.sampled_from(["GET", "POST"]), TARGETS, STEPS)
    def check(method: str, target: str, steps: list[str]) -> None:
        asyncio.run(run(method, target, steps))

    check()


@pytest.mark.parametrize("size", [1, 63])
async def test_a_great_many_small_parts_are_refused(served: Bench, size: int) -> None:
    _, replies = opened(served, *[b"x" * size] * 1025)
    assert replies[0].status == 413
    assert b"1024 chunks of under 64 bytes" in replies[0].body


async def test_many_parts_of_some_size_are_not(served: Bench) -> None:
    response = await response_of(served, *[b"x" * 64] * 2000)
    assert response.status == 422


def test_monitoring_has_time_where_nothing_else_has(served: Bench) -> None:
    admission = dataclasses.replace(served.endpoint.admission, timeout_ms=1)
    assert admission.check(head("GET", "/models")) == 1
    for path in ("/metrics", "/readyz"):
        assert admission.check(head("GET", path)) == MONITORING_MS
        assert admission.check(head("GET", path, (b"x-request-timeout-ms", b"200"))) == 200
