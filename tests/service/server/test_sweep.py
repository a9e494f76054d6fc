"""What ends a connection besides its requests: time, a slow reader, the limit, the drain."""

import asyncio
import dataclasses
import time
from collections.abc import Callable

import pytest

from logitserve_service.config.proxies import Proxies
from logitserve_service.server.connections import (
    DISCARD_SECONDS,
    EXTRA_CONNECTIONS,
    HURRIED_SECONDS,
    Connections,
    Limits,
)
from logitserve_service.server.drain import Drain
from tests.service.server.test_connection import IMAGES, LIVE, post, predict
from tests.service.server.wire import Client, request
from tests.service.serving import Bench

pytestmark = pytest.mark.anyio

LIMITS = Limits(
    connections=100, header_seconds=10, body_seconds=20, keep_alive_seconds=40, request_seconds=60
)


def connections_of(**changes: int) -> Connections:
    drain = Drain(linger_seconds=0, drain_seconds=5)
    return Connections(dataclasses.replace(LIMITS, **changes), drain, Proxies(""))


@pytest.fixture
def connections() -> Connections:
    return connections_of()


def begin_write(client: Client) -> None:
    client.send(LIVE)
    client.transport.unsent = 100
    client.connection.pause_writing()


@pytest.mark.parametrize(
    ("begin", "seconds", "status", "cut"),
    [
        (lambda _: None, 40, None, False),
        (lambda client: client.send(LIVE[:9]), 10, 408, True),
        (lambda client: client.send(predict(0)[:-9]), 20, 408, True),
        (begin_write, 20, None, True),
        (lambda client: client.send(post("Content-Length: 9999999", body=None)), 5, 413, False),
    ],
    ids=["idle", "head", "body", "write", "discard"],
)
async def test_how_long_a_phase_may_take(
    served: Bench,
    connections: Connections,
    begin: Callable[[Client], None],
    seconds: float,
    status: int | None,
    *,
    cut: bool,
) -> None:
    client = Client(served, connections)
    begin(client)
    await asyncio.sleep(0.05)
    before = len(client.transport.written) if status is None else 0
    assert client.connection.in_flight == cut
    now = time.perf_counter()
    for later in (0, seconds - 0.1):
        assert not client.connection.check(now + later)
    assert not client.transport.is_closing()
    assert client.connection.check(now + seconds) == cut
    if status is None:
        assert client.transport.is_closing()
        assert len(client.transport.written) == before
    elif cut:
        assert (await client.reply()).status == status
        assert client.transport.eof
        assert not client.connection.in_flight
        assert not client.connection.check(now + seconds)  # now it is DISCARD
        client.connection.check(now + seconds + DISCARD_SECONDS)
        assert client.transport.is_closing()
    else:
        assert (await client.reply()).status == status
        assert client.transport.is_closing()


async def test_every_request_begins_anew(served: Bench, connections: Connections) -> None:
    client = Client(served, connections)
    now = time.perf_counter()
    for turn in range(5):
        client.connection.check(now + 39 * turn)
        client.send(LIVE)
        await client.replies(turn + 1)
    assert not client.transport.is_closing()


async def test_a_response_has_the_deadline_of_its_request(
    served: Bench, connections: Connections
) -> None:
    served.gated.gate.clear()
    client = Client(served, connections)
    client.send(predict(0) + predict(1))
    await client.until(served.gated.entered.is_set)
    now = time.perf_counter()
    for later in (0.0, 50.0):
        assert not client.connection.check(now + later)
    assert client.transport.written == b""
    connections.sweep(now + 61)
    served.gated.gate.set()
    replies = await client.replies(2)
    assert [reply.status for reply in replies] == [504, 504]
    assert [record.status for record in served.records] == [504, 504]


async def test_a_client_that_reads_slowly_is_not_answered_ahead(served: Bench) -> None:
    client = Client(served)
    client.connection.pause_writing()
    assert client.transport.paused
    client.send(LIVE + predict(0), predict(1))
    await asyncio.sleep(0.05)
    assert client.transport.written == b""
    client.connection.resume_writing()
    replies = await client.replies(3)
    assert [reply.status for reply in replies] == [200] * 3
    await client.until(lambda: not client.transport.paused)


async def test_over_the_limit_only_monitoring_is_answered(served: Bench) -> None:
    connections = connections_of(connections=2)
    within = [Client(served, connections) for _ in range(2)]
    scrape = request("GET", "/metrics", body=None)
    for data, status in ((LIVE, 200), (scrape, 200), (predict(0), 503), (predict(0)[:-9], 503)):
        client = Client(served, connections)
        client.send(data)
        reply = await client.reply()
        assert (reply.status, reply.fields[b"connection"]) == (status, b"close")
        assert await client.ended()
        client.leave()
    within[0].send(predict(0))
    assert (await within[0].reply()).status == 200
    assert served.reserved == 0


async def test_near_the_limit_nothing_idles(served: Bench) -> None:
    connections = connections_of(connections=2)
    clients = [Client(served, connections) for _ in range(3)]
    now = time.perf_counter()
    connections.sweep(now)
    connections.sweep(now + HURRIED_SECONDS)
    assert all(client.transport.is_closing() for client in clients)


async def test_far_over_the_limit_silent_connections_make_room_for_probes(served: Bench) -> None:
    connections = connections_of(connections=2)
    clients = [Client(served, connections) for _ in range(2 + EXTRA_CONNECTIONS)]
    clients[2].send(LIVE[:9])
    clients += [Client(served, connections) for _ in range(3)]
    aborted = [number for number, client in enumerate(clients) if client.transport.aborted]
    assert aborted == [3, 4, 5]
    for client in (clients[2], clients[-1]):
        client.send(LIVE[9:] if client is clients[2] else LIVE)
        assert (await client.reply()).status == 200


async def test_a_drain_closes_after_the_response(served: Bench, connections: Connections) -> None:
    idle, busy, begun = (Client(served, connections) for _ in range(3))
    idle.send(LIVE)
    await idle.reply()
    unused = connections.has_unused
    assert unused
    served.gated.gate.clear()
    busy.send(predict(0))
    begun.send(LIVE[:9])
    await busy.until(served.gated.entered.is_set)
    assert not connections.has_unused
    connections.drain.begin()
    connections.close_idle()
    assert [each.transport.is_closing() for each in (idle, busy, begun)] == [True, False, False]
    assert connections.in_flight == 2
    served.gated.gate.set()
    begun.send(LIVE[9:])
    for client in (busy, begun):
        reply = await client.reply()
        assert (reply.status, reply.fields[b"connection"]) == (200, b"close")
        assert client.transport.is_closing()
        client.leave()
    assert len(connections) == 1


async def test_a_lost_connection_cancels_its_requests(
    served: Bench, connections: Connections
) -> None:
    served.gated.gate.clear()
    client = Client(served, connections)
    client.send(predict(0) + predict(1) + IMAGES[0])
    await client.until(served.gated.entered.is_set)
    client.leave()
    served.gated.gate.set()
    await client.until(lambda: not served.waiting)
    assert {record.status for record in served.records} == {499}
    assert (client.transport.written, served.reserved, len(connections)) == (b"", 0, 0)
