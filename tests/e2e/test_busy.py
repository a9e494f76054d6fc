"""Too busy is 429, with when to come back; probes and metrics are answered all the same."""

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from logitserve_service.http.routes.probes import PROBES
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, running
from tests.e2e.test_bad_requests import assert_problem
from tests.tiny_models import png, random_picture

GOOD = png(random_picture(0))
PNG = {"content-type": "image/png"}
SECONDS = 20
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def server(models: tuple[Path, Weights]) -> Iterator[Server]:
    """A server in whose queue one picture has room, and in whose memory one body."""
    limits = ("--max-queue", "1", "--max-body-bytes", f"{MAX_BYTES}", "--max-buffered-bytes", "1")
    with running("--models", str(models[0]), *limits) as started:
        yield started


def assert_the_unlimited_are_answered(client: httpx.Client) -> None:
    for path in (*sorted(PROBES), "/metrics"):
        assert client.get(path).status_code == 200, path


def assert_busy(response: httpx.Response, *words: str) -> None:
    assert_problem(response, 429, "try again later", *words)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/predict", "/models/digits/predict"])
def test_a_full_queue(client: httpx.Client, path: str) -> None:
    pictures = [("file", GOOD), ("file", GOOD)]
    assert_busy(client.post(path, files=pictures), "limit is 1 pictures", "LOGITSERVE_MAX_QUEUE")
    assert_the_unlimited_are_answered(client)
    assert client.post(path, content=GOOD, headers=PNG).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/models/digits/predict"])
def test_full_memory(client: httpx.Client, server: Server, path: str) -> None:
    """An upload that stands still holds nearly all there is, until its client goes."""
    other = b"\x00" * (MAX_BYTES // 2)
    ending = time.monotonic() + SECONDS
    raw = stalled_upload(server.url, path)
    try:
        while (response := client.post(path, content=other, headers=PNG)).status_code != 429:
            assert response.status_code == 422  # what stands still has not all been read yet
            assert time.monotonic() < ending
            if select.select([raw], [], [], 0)[0]:
                # While both were read, it was this one that had no room.
                assert b" 429 " in raw.recv(4096)
                raw.close()
                raw = stalled_upload(server.url, path)
        assert_busy(response, f"limit of {MAX_BYTES} bytes", "LOGITSERVE_MAX_BUFFERED_BYTES")
        assert_the_unlimited_are_answered(client)
        assert client.post(path, content=GOOD, headers=PNG).status_code == 200
    finally:
        raw.close()
    while client.post(path, content=other, headers=PNG).status_code == 429:
        assert time.monotonic() < ending
    assert client.post(path, content=bytes(MAX_BYTES), headers=PNG).status_code == 422


def stalled_upload(url: str, path: str) -> socket.socket:
    """A connection on which most of a body was sent, and no more comes."""
    address = urlsplit(url)
    raw = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
    raw.sendall(
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
        f"content-length: {MAX_BYTES}\r\n\r\n".encode()
    )
    raw.sendall(bytes(MAX_BYTES * 9 // 10))
    return raw
