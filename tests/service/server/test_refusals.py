"""What comes with a refused request, behind it, or as its trailers."""

import pytest

from tests.service.server.test_connection import CHUNKED, IMAGES, LIVE, chunks, post
from tests.service.server.wire import Client, request
from tests.service.serving import Bench

pytestmark = pytest.mark.anyio

BODY = post(CHUNKED, body=None) + chunks(IMAGES[0], 50)[: -len(b"\r\n")]
"""A request whose trailers are still to come."""


@pytest.mark.parametrize(
    "refused",
    [
        post("X-Request-Timeout-Ms: soon", body=b"a"),
        post("Content-Encoding: br", body=b"a"),
        request("PUT", "/predict", body=b"a"),
    ],
)
@pytest.mark.parametrize("rest", [b"\0", b"\x16\x03\x01", LIVE + b"no request\r\n\r\n"])
async def test_garbage_in_the_chunk_of_a_refused_request(
    served: Bench, refused: bytes, rest: bytes
) -> None:
    client = Client(served)
    client.send(refused + rest)  # nothing is written after `write_eof`, which would raise
    assert 400 <= (await client.reply()).status < 500
    assert client.transport.eof
    assert len(served.records) == 1


async def test_trailers_are_not_kept(served: Bench) -> None:
    client = Client(served)
    client.send(BODY, *[b"X-Request-ID: of-a-trailer\r\n"] * 1_000)
    assert len(client.connection._headers) == 2
    client.send(b"\r\n")
    reply = await client.reply()
    assert reply.status == 200
    assert reply.fields[b"x-request-id"] != b"of-a-trailer"


async def test_a_trailer_that_never_ends_is_refused(served: Bench) -> None:
    client = Client(served)
    client.send(BODY, b"X-Trailer: ", *[b"a" * 1000] * 70)
    assert (await client.reply()).status == 431
    assert client.transport.eof
    assert served.reserved == 0


async def test_many_chunks_are_no_long_trailer(served: Bench) -> None:
    client = Client(served)
    pieces = [b"46\r\n", b"x" * 70 + b"\r\n"] * 2000
    client.send(post(CHUNKED, body=None), *pieces, b"0\r\n\r\n")
    assert (await client.reply()).status == 422  # no image


async def test_a_fault_of_the_service_is_not_blamed_on_the_client(
    served: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("a fault of the service")

    monkeypatch.setattr("logitserve_service.server.connection.fields_of", fault)
    client = Client(served)
    client.send(LIVE)
    assert (await client.reply()).status == 500
    assert "a fault of the service" in caplog.text
