"""The direct way of `POST /predict` answers what the way through ASGI answers, byte for byte.

A request with an `Origin` goes through ASGI, so that the same question can be asked on both ways.
"""

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import Weights
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.test_stopping import connect, read_all
from tests.logitserve.inference.test_native_png import resealed
from tests.tiny_models import encode, linear_logits, png, random_picture

PNG = {"content-type": "image/png"}
THROUGH_ASGI = {"origin": "https://example.org"}
GOOD = png(random_picture(0))
BODIES = {
    "native": GOOD,
    "other size": png(random_picture(0)[:20]),
    "color": encode(Image.fromarray(random_picture(0)[:, :, 0]).convert("RGB"), "PNG"),
    "jpeg": encode(Image.fromarray(random_picture(0)[:, :, 0]), "JPEG"),
    "empty": b"",
    "text": b"seven",
    "cut off": GOOD[:-20],
    "wrong checksum": GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:],
    "broken pixels": GOOD[:33] + resealed(b"IDAT", b"none") + GOOD[-12:],
    "long": png(np.random.default_rng(0).integers(0, 256, (160, 160), np.uint8)),
}
USABLE = {"native", "other size", "color", "jpeg", "long"}


def request(body: bytes, *fields: str) -> bytes:
    head = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", *fields]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "\r\n"]).encode() + body


def comparable(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer, but for time and id."""
    told = {"date": "…", "x-request-id": "…"}
    headers = [(name, told.get(name, value)) for name, value in response.headers.items()]
    timed = [
        (name, re.sub(r"[0-9.]+", "…", value) if name == "server-timing" else value)
        for name, value in headers
    ]
    return response.status_code, response.content, timed


@pytest.mark.parametrize("kind", BODIES)
def test_both_ways_give_the_same_answer(client: httpx.Client, kind: str) -> None:
    body = BODIES[kind]
    direct = client.post("/predict", content=body, headers=PNG)
    through = client.post("/predict", content=body, headers=PNG | THROUGH_ASGI)
    assert comparable(direct) == comparable(through)
    assert (direct.status_code == 200) == (kind in USABLE)


def test_many_at_once_each_get_their_own_answer(client: httpx.Client, weights: Weights) -> None:
    pictures = [random_picture(seed) for seed in range(200)]
    bodies = [png(picture) for picture in pictures]
    bodies[17] = bodies[101] = BODIES["broken pixels"]
    with ThreadPoolExecutor(16) as pool:
        asked = pool.map(lambda body: client.post("/predict", content=body, headers=PNG), bodies)
        answers = list(asked)
    right = linear_logits(np.stack(pictures), weights["digits/2"]).argmax(axis=1)
    for number, (answer, argmax) in enumerate(zip(answers, right, strict=True)):
        if number in {17, 101}:
            assert answer.status_code == 422
            assert "damaged" in answer.json()["detail"]
        else:
            assert answer.json()["predictions"][0]["argmax"] == argmax
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)


def bodies_of(answer: bytes) -> list[bytes]:
    """The bodies of raw answers, one behind the other."""
    bodies = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", head)
        assert match is not None
        assert head.startswith(b"HTTP/1.1 200 ")
        bodies.append(rest[: int(match[1])])
        answer = rest[int(match[1]) :]
    return bodies


@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_pipelined_requests_are_answered_in_their_order(
    server: Server, client: httpx.Client, piece: int
) -> None:
    files = [png(random_picture(seed)) for seed in range(5)]
    ways: list[tuple[str, ...]] = [(), ("Origin: https://example.org",), (), (), ()]
    ways[-1] = ("Connection: close",)
    sent = b"".join(request(file, *way) for file, way in zip(files, ways, strict=True))
    with connect(server) as connection:
        for start in range(0, len(sent), piece):
            connection.sendall(sent[start : start + piece])
        received = read_all(connection)
    expected = [client.post("/predict", content=file, headers=PNG).content for file in files]
    assert bodies_of(received) == expected
    assert received.count(b"connection: close") == 1


def test_requests_with_the_same_head_each_get_their_own_answer(
    server: Server, client: httpx.Client
) -> None:
    # Not compressed, they are equally long, and so are their heads.
    files = [png(random_picture(seed), compress_level=0) for seed in range(5)]
    files.insert(2, files[0][:60] + bytes([files[0][60] ^ 1]) + files[0][61:])
    assert len({request(file)[: -len(file)] for file in files}) == 1
    expected = [client.post("/predict", content=file, headers=PNG).content for file in files]
    with connect(server) as connection, connection.makefile("rb") as answers:
        for file, right in zip(files, expected, strict=True):
            for noise in (b"", b"\r\n", b"\r\n\r\n"):  # RFC 9112, section 2.2
                if noise:
                    connection.sendall(noise)
                connection.sendall(request(file))
                status, body = read_answer(answers)
                assert (status, body) == (422 if file is files[2] else 200, right)
        connection.shutdown(socket.SHUT_WR)
        assert answers.read() == b""


def read_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b": ")
        if name == b"content-length":
            length = int(value)
    return status, answers.read(length)


def test_what_is_unusual_is_answered_too(server: Server, client: httpx.Client) -> None:
    expected = client.post("/predict", content=GOOD, headers=PNG).content
    old = request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    for sent in (
        old,
        request(GOOD, "Connection: close", "Expect: 100-continue"),
        request(b"", "Connection: close", "Transfer-Encoding: chunked").replace(
            b"Content-Length: 0\r\n", b""
        )
        + chunked,
        request(GOOD, "Connection: close", "X-Forwarded-For: 1.2.3.4"),
        request(GOOD, "Connection: close", "Content-Type: image/png"),
    ):
        with connect(server) as connection:
            connection.sendall(sent)
            answer = read_all(connection)
        answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), sent
        assert answer.endswith(expected)


def test_a_client_that_leaves_hurts_nobody(server: Server, client: httpx.Client) -> None:
    address = urlsplit(server.url)
    for _ in range(50):
        with socket.create_connection((address.hostname, address.port)) as leaving:
            leaving.sendall(request(GOOD) * 3)
        with socket.create_connection((address.hostname, address.port)) as leaving:
            leaving.sendall(request(GOOD)[:-5])
    assert client.post("/predict", content=GOOD, headers=PNG).status_code == 200


@pytest.fixture(scope="module")
def impatient(models: tuple[Path, Weights]) -> Iterator[Server]:
    limits = ("--request-timeout-ms", "300", "--max-buffered-bytes", "1")
    with running("--models", str(models[0]), *limits, "--max-body-bytes", "20000") as started:
        yield started


def test_a_body_that_stands_still_is_late(impatient: Server) -> None:
    with connect(impatient) as connection:
        begun = time.monotonic()
        connection.sendall(request(GOOD)[:-5])
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert 0.3 <= time.monotonic() - begun < 5


def test_bodies_that_stand_still_count(impatient: Server) -> None:
    body = bytes(12_000)
    with connect(impatient) as first, connect(impatient) as second:
        first.sendall(request(body)[:-5])
        time.sleep(0.05)  # the kernel keeps no order between connections
        second.sendall(request(body)[:-5])
        assert second.recv(65536).startswith(b"HTTP/1.1 429 ")
        assert first.recv(65536).startswith(b"HTTP/1.1 504 ")
    response = httpx.post(f"{impatient.url}/predict", content=GOOD, headers=PNG)
    assert response.status_code == 200


def test_a_key_is_asked_on_both_ways(models: tuple[Path, Weights]) -> None:
    environment = clean_environment(LOGITSERVE_API_KEY="k" * 32)
    with running("--models", str(models[0]), environment=environment) as server:
        for fields in ({}, THROUGH_ASGI):
            for key, status in (({}, 401), ({"x-api-key": "k" * 32}, 200)):
                headers = PNG | fields | key
                response = httpx.post(f"{server.url}/predict", content=GOOD, headers=headers)
                assert response.status_code == status


def test_a_key_that_was_taken_back_is_refused_on_a_connection_that_used_it(
    models: tuple[Path, Weights], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("old-key-of-the-test")
    asked = request(GOOD, "X-API-Key: old-key-of-the-test")
    with (
        running("--models", str(models[0]), "--api-key-file", str(file)) as server,
        connect(server) as connection,
        connection.makefile("rb") as answers,
    ):

        def status() -> int:
            connection.sendall(asked)
            return read_answer(answers)[0]

        assert [status() for _ in range(3)] == [200, 200, 200]
        file.write_text("new-key-of-the-test")
        ending = time.monotonic() + 30
        while (found := status()) == 200:
            assert time.monotonic() < ending
        assert found == 401
