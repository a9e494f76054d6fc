"""The adapter for ASGI servers: the same responses as a connection gives."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from logitserve_service.http.asgi import AsgiApplication
from tests.service.http.test_endpoint import IMAGE, until
from tests.service.server.wire import Client, request
from tests.service.serving import MAX_BODY, Bench

pytestmark = pytest.mark.anyio

VARYING = {b"x-request-id", b"server-timing", b"date", b"connection"}


def stable(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {name: value for name, value in headers if name not in VARYING}


def scope(method: str, target: str, *fields: str) -> dict[str, Any]:
    path, _, query = target.partition("?")
    pairs = [field.encode().split(b": ", 1) for field in fields]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower(), value) for name, value in pairs],
        "client": ("127.0.0.1", 5),
    }


class Exchange:
    """One call of the application."""

    def __init__(self, bench: Bench, method: str, target: str, *fields: str) -> None:
        self.sent: list[Any] = []
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        application = AsgiApplication(bench.endpoint, [])
        call = application(scope(method, target, *fields), self.messages.get, self.send)
        self.task = asyncio.ensure_future(call)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def give(self, body: bytes = b"", *, more: bool = False) -> None:
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("POST", "/predict?top_k=1", (), IMAGE),
        ("POST", "/models/tiny/predict", ("Content-Type: text/plain",), b"abc"),
        ("POST", "/predict", (), b"broken"),
        ("POST", "/predict", ("Content-Encoding: br",), b"1"),
        ("POST", "/predict", (), b"a" * (MAX_BODY + 1)),
        ("GET", "/predict", (), b""),
        ("GET", "/v2/models/tiny", (), b""),
        ("GET", "/none", (), b""),
        ("POST", "/v1/models/tiny:predict", (), b"{}"),
    ],
)
async def test_the_same_response_as_over_a_connection(
    served: Bench, method: str, target: str, fields: tuple[str, ...], body: bytes
) -> None:
    client = Client(served)
    client.send(request(method, target, *fields, body=body))
    expected = await client.reply()
    sent = "Host: x", f"Content-Length: {len(body)}"
    exchange = Exchange(served, method, target, *fields, *sent)
    exchange.give(body[:7], more=True)
    exchange.give(body[7:])
    async with asyncio.timeout(10):
        await exchange.task
    start, end = exchange.sent
    assert (start["status"], end["body"]) == (expected.status, expected.body)
    assert not end.get("more_body")
    assert stable(start["headers"]) == stable(expected.fields.items())
    assert served.reserved == 0
    assert len(served.records) == 2


@pytest.mark.parametrize("phase", ["body", "run"])
async def test_a_client_that_leaves_cancels(served: Bench, phase: str) -> None:
    served.gated.gate.clear()
    exchange = Exchange(served, "POST", "/predict")
    exchange.give(IMAGE, more=phase == "body")
    if phase == "run":
        await until(served.gated.entered.is_set)
    exchange.messages.put_nowait({"type": "http.disconnect"})
    async with asyncio.timeout(10):
        await exchange.task
    served.gated.gate.set()
    assert exchange.sent == []
    assert [each.status for each in served.records] == [499]
    assert served.reserved == 0


async def test_the_deadline_holds(served: Bench) -> None:
    exchange = Exchange(served, "POST", "/predict", "X-Request-Timeout-Ms: 20")
    exchange.give(IMAGE, more=True)
    async with asyncio.timeout(10):
        await exchange.task
    assert exchange.sent[0]["status"] == 504


async def test_lifespan(served: Bench) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def background() -> AsyncIterator[None]:
        seen.append("begun")
        yield
        seen.append("ended")

    messages = asyncio.Queue[Any]()
    messages.put_nowait({"type": "lifespan.startup"})

    async def send(message: Any) -> None:
        seen.append(message["type"])
        messages.put_nowait({"type": "lifespan.shutdown"})

    application = AsgiApplication(served.endpoint, [background])
    await application({"type": "lifespan"}, messages.get, send)
    assert seen == ["begun", "lifespan.startup.complete", "ended", "lifespan.shutdown.complete"]
