"""HTTP/1.1 on one connection: order, chunks, ends of connections."""

import asyncio
import functools
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitserve_service.server.connection import MAX_FIELDS, MAX_HEAD_BYTES, MAX_PIPELINED, PIECE
from tests.service.server.wire import Client, Reply, parse, request
from tests.service.serving import MAX_BODY, Bench
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.anyio

IMAGES = [png(random_picture(seed)) for seed in range(4)]
post = functools.partial(request, "POST", "/predict")
LIVE = request("GET", "/livez", body=None)
CHUNKED = "Transfer-Encoding: chunked"


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def predict(seed: int, *fields: str) -> bytes:
    return post(*fields, body=IMAGES[seed])


def summary(reply: Reply) -> tuple[int, Any, bool]:
    """What does not differ from one response to the next: no ids, no times."""
    body = json.loads(reply.body) if reply.body else None
    return reply.status, body, reply.fields.get(b"connection") == b"close"


async def test_one_request_after_the_other(served: Bench) -> None:
    client = Client(served)
    for seed in range(3):
        client.send(predict(seed))
        (*_, last) = await client.replies(seed + 1)
        expected = served.gated.predict(random_picture(seed)[None]).argmax[0]
        assert json.loads(last.body)["predictions"][0]["argmax"] == expected
    assert not await client.ended()
    assert [exchange.status for exchange in served.records] == [200] * 3


async def test_pipelined_requests_are_answered_in_their_order(served: Bench) -> None:
    client = Client(served)
    served.gated.gate.clear()
    client.send(predict(0) + LIVE + predict(1) + request("GET", "/none", body=None))
    await client.until(served.gated.entered.is_set)
    await asyncio.sleep(0.02)
    assert client.transport.written == b""  # though the second is ready
    assert client.transport.paused
    served.gated.gate.set()
    replies = await client.replies(4)
    assert [reply.status for reply in replies] == [200, 200, 200, 404]
    assert replies[0].body != replies[2].body
    await client.until(lambda: not client.transport.paused)
    client.send(LIVE)
    await client.replies(5)


@pytest.mark.parametrize("count", [2, 50])
async def test_a_pipelined_request_begins_after_the_one_before(served: Bench, count: int) -> None:
    client = Client(served)
    served.gated.batches.clear()
    client.send(predict(0) * count)
    await client.replies(count)
    assert served.gated.batches == [1] * count


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
"""As Java's HttpClient and `curl --http2` send it with every request."""
STREAMS = [
    (predict(0) + predict(1) + LIVE, [200, 200, 200]),
    (post(CHUNKED, body=None) + chunks(IMAGES[1], 100) + LIVE, [200, 200]),
    (post("Connection: close", body=IMAGES[2]) + LIVE, [200]),
    (
        post(body=b"broken") + request("POST", "/none", body=b"1") + LIVE,
        [422, 404, 200],
    ),
    (LIVE + b"garbage\r\n\r\n" + LIVE, [200, 400]),
    (predict(3) + b"garbage\r\n\r\n" + LIVE, [200, 400]),
    (predict(3) + b"\0" * 300, [200, 400]),
    (request("DELETE", "/predict", body=b"abc") + LIVE, [405]),
    (post(CHUNKED, body=None) + b"zz\r\n" + LIVE, [400]),
    (request("GET", "/livez", *OFFER, body=None) + LIVE, [200, 200]),
    (request("GET", "/livez", *OFFER, body=b"abc") + LIVE, [200, 200]),
    (request("GET", "/livez", *OFFER, body=b"") + LIVE, [200, 200]),
    (post(*OFFER, body=IMAGES[1]) + predict(2) + LIVE, [200, 200, 200]),
    (post(*OFFER, CHUNKED, body=None) + chunks(IMAGES[1], 50) + LIVE, [200, 200]),
    (post(*OFFER, CHUNKED, body=None) + b"zz\r\n" + LIVE, [400]),
    (post(*OFFER, "Content-Length: 1", "Content-Length: 2", body=None) + b"ab", [400]),
    (post("Content-Encoding: br", body=b"abc") + LIVE, [415]),
    (post("Content-Encoding: gzip", body=b"abc") + LIVE, [400, 200]),
    (request("GET", "/livez", *[f"X-{i}: 1" for i in range(MAX_FIELDS)], body=None) + LIVE, [431]),
    (
        post("Content-Length: 1", "Content-Length: 2", body=None) + b"ab",
        [400],
    ),
    (post(CHUNKED, body=b"abc") + LIVE, [400]),
    (b"\r\n\r\n" + LIVE, [200]),
    (request("GET", "http://x", body=None) + LIVE, [400]),
    (request("CONNECT", "x:80", body=None) + LIVE, [400]),
    (request("GET", "/livez", version="1.0", body=None) + LIVE, [200]),
    (request("GET", "/livez", "Connection: keep-alive", version="1.0", body=None), [200]),
]


async def answered(served: Bench, parts: list[bytes]) -> list[tuple[int, Any, bool]]:
    """What a client gets that sends these parts, and then a request that closes."""
    client = Client(served)
    await client.send_slowly(*parts)
    quiet = 0
    while quiet < 3:  # until nothing happens any more
        before = len(client.transport.written)
        await asyncio.sleep(0.004)
        busy = client.connection.in_flight and client.connection._tickets
        quiet = 0 if busy or len(client.transport.written) > before else quiet + 1
    found = [summary(reply) for reply in parse(client.transport.written)]
    client.leave()
    return found


@pytest.mark.parametrize(("stream", "statuses"), STREAMS)
def test_any_chunks_of_a_stream_get_the_same_responses(
    of_module: Bench, stream: bytes, statuses: list[int]
) -> None:
    of_module.records.clear()
    whole = asyncio.run(answered(of_module, [stream]))
    assert [status for status, *_ in whole] == statuses
    assert not any(close for *_, close in whole[:-1])
    assert len(of_module.records) == len(statuses)

    @settings(max_examples=12)
    @given(st.lists(st.integers(0, len(stream)), max_size=8))
    def check(cuts: list[int]) -> None:
        places = [0, *sorted(cuts), len(stream)]
        parts = [stream[a:b] for a, b in itertools.pairwise(places) if a < b]
        assert asyncio.run(answered(of_module, parts)) == whole

    check()
    assert asyncio.run(answered(of_module, [bytes([byte]) for byte in stream])) == whole
    assert of_module.reserved == 0


async def test_garbage_behind_a_request_in_flight(served: Bench) -> None:
    client = Client(served)
    served.gated.gate.clear()
    client.send(predict(0) + b"garbage" * 100, b"more\r\n\r\n", LIVE)
    await client.until(served.gated.entered.is_set)
    client.send(b"\0" * 70_000)
    served.gated.gate.set()
    replies = await client.replies(2)
    assert [reply.status for reply in replies] == [200, 400]
    assert b"this is not HTTP/1.1" in replies[1].body
    assert await client.ended()


@pytest.mark.parametrize("size", [100, 5_000, 2**20])
@pytest.mark.parametrize("kind", ["target", "field", "fields"])
async def test_a_head_that_is_too_large(served: Bench, size: int, kind: str) -> None:
    long = "a" * (MAX_HEAD_BYTES + 100)
    many = [f"X-{i}: {'a' * 1000}" for i in range(100)]
    data = {
        "target": request("GET", f"/{long}", body=None),
        "field": request("GET", "/", f"X: {long}", body=None),
        "fields": request("GET", "/", *many, body=None),
    }[kind]
    for before in (b"", predict(0)):
        client = Client(served)
        stream = before + data
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        await client.send_slowly(*parts)
        *_, last = await client.replies(1 + bool(before))
        assert last.status == 431
        assert await client.ended()


async def test_100_continue(served: Bench) -> None:
    top = post("Expect: 100-continue", body=IMAGES[0])[: -len(IMAGES[0])]
    client = Client(served)
    client.send(top)
    assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(IMAGES[0])
    assert (await client.reply()).status == 200
    whole = Client(served)
    whole.send(LIVE + top)
    await whole.until(lambda: whole.transport.written.endswith(b"Continue\r\n\r\n"))
    refused = Client(served)
    refused.send(
        request("DELETE", "/predict", "Expect: 100-continue", "Content-Length: 9", body=None)
    )
    assert (await refused.reply()).status == 405
    assert b"Continue" not in refused.transport.written
    old = Client(served)
    old.send(top.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert old.transport.written == b""  # RFC 9110, section 10.1.1


@pytest.mark.parametrize("target", ["/livez", "/predict", "/v2", "/none"])
async def test_head_has_no_body(served: Bench, target: str) -> None:
    client = Client(served)
    client.send(request("HEAD", target, body=None))
    client.send(LIVE)
    first, second = await client.replies(2, 0)
    assert int(first.fields[b"content-length"]) > 0
    assert second.body == b'{"status":"ok"}'


@pytest.mark.parametrize(
    ("top", "rest", "status"),
    [
        (
            post(f"Content-Length: {MAX_BODY + 1}", body=None),
            b"a" * 100,
            413,
        ),
        (post(CHUNKED, body=None), b"%x\r\n" % (2 * MAX_BODY), 413),
        (
            post("Content-Encoding: br", "Content-Length: 9", body=None),
            b"",
            415,
        ),
        (request("GET", "/predict", "Content-Length: 9", body=None), b"1", 405),
    ],
)
async def test_an_early_refusal_closes_for_writing(
    served: Bench, top: bytes, rest: bytes, status: int
) -> None:
    client = Client(served)
    client.send(top, rest)
    if status == 413:
        for _ in range(3):
            client.send(b"a" * MAX_BODY)
    reply = await client.reply()
    assert reply.status == status
    assert reply.fields[b"connection"] == b"close"
    assert client.transport.eof
    assert not client.transport.closed  # so that the client can read the response
    client.send(b"a" * 1000, LIVE)
    assert len(parse(client.transport.written)) == 1
    client.leave()
    assert (served.reserved, len(served.records)) == (0, 1)


async def test_a_client_that_has_closed_its_sending_side_gets_its_answers(served: Bench) -> None:
    served.gated.gate.clear()
    client = Client(served)
    client.send(predict(0) + predict(1))
    assert client.connection.eof_received()
    await client.until(served.gated.entered.is_set)
    served.gated.gate.set()
    replies = await client.replies(2)
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].body != replies[1].body
    assert replies[1].fields[b"connection"] == b"close"
    assert client.transport.closed


async def test_a_request_that_ends_too_early(served: Bench) -> None:
    client = Client(served)
    client.send(predict(0) + post("Content-Length: 9", body=None) + b"abc")
    assert client.connection.eof_received()
    assert (await client.reply()).status == 200
    assert client.transport.closed
    assert sorted(record.status for record in served.records) == [200, 499]
    assert not Client(served).connection.eof_received()


async def test_a_client_that_has_nothing_outstanding_may_leave(served: Bench) -> None:
    client = Client(served)
    client.send(LIVE)
    await client.reply()
    assert not client.connection.eof_received()


async def test_few_pipelined_requests_are_parsed_at_a_time(served: Bench) -> None:
    served.gated.gate.clear()
    client = Client(served)
    client.send(predict(0), LIVE * 600)
    most = MAX_PIPELINED + PIECE // len(LIVE) + 1
    assert len(client.connection._tickets) <= most
    served.gated.gate.set()
    replies = await client.replies(601)
    assert {reply.status for reply in replies} == {200}
    client.send(LIVE)
    await client.replies(602)
