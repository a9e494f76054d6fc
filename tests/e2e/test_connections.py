"""What a client may take: time, connections, size of a head; and how it is told."""

import itertools
import json
import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Weights
from tests.e2e.metrics import NO_TLS, value, wait_until
from tests.e2e.process import Server, running
from tests.e2e.profiles import HEADER_SECONDS, MAX_CONNECTIONS
from tests.e2e.sockets import connect, read_all
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def problem(answer: bytes) -> tuple[int, str]:
    """Status and detail of a raw answer that is a problem document and closes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    document = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % document["status"])
    return document["status"], document["detail"]


def exchanged(server: Server, *parts: bytes) -> bytes:
    """All that comes back for these bytes, until the server closes."""
    with connect(server) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
        return read_all(connection)


def trickled(server: Server, data: bytes) -> tuple[bytes, float]:
    """What comes back while a byte is sent every now and then, and after how many seconds."""
    begun = time.monotonic()
    with connect(server) as connection:
        connection.settimeout(0.1)
        received = b""
        for byte in itertools.chain(data, itertools.repeat(ord("x"))):
            try:
                connection.send(bytes([byte]))
                part = connection.recv(65536)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if not part:
                break
            received += part
    return received, time.monotonic() - begun


def test_a_trickled_head(strict: Server) -> None:
    answer, seconds = trickled(strict, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-")
    status, detail = problem(answer)
    assert status == 408
    assert f"{HEADER_SECONDS} seconds" in detail
    assert "LOGITSERVE_HEADER_TIMEOUT_SECONDS" in detail
    assert HEADER_SECONDS <= seconds < 10


def test_a_trickled_body(strict: Server) -> None:
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n12345")
        status, detail = problem(read_all(connection))
    assert status == 408
    assert "LOGITSERVE_BODY_TIMEOUT_SECONDS" in detail


def test_a_trickled_form(strict: Server) -> None:
    head = b"POST /models/warm/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    form = b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    assert problem(exchanged(strict, head + form))[0] == 408


def test_silence_is_ended_without_a_word(strict: Server) -> None:
    assert exchanged(strict) == b""


def test_an_idle_connection(strict: Server) -> None:
    answer = exchanged(strict, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b'{"status":"ok"}')


def test_a_client_that_does_not_read(strict: Server) -> None:
    (process,) = psutil.Process(strict.process.pid).children()
    with connect(strict) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = connection.getsockname()[1]
        page = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.settimeout(0.2)
        try:
            while True:
                connection.sendall(page * 50)
        except (TimeoutError, ConnectionError):
            pass
        wait_until(lambda: port not in [c.raddr.port for c in process.net_connections() if c.raddr])
    assert httpx.get(f"{strict.url}/readyz", timeout=20).status_code == 200


def test_beyond_the_limit_only_probes_are_answered(strict: Server) -> None:
    wait_until(lambda: value(strict.url, "connections") == 1)  # that of the question
    with ExitStack() as stack:
        inside = [
            stack.enter_context(httpx.Client(base_url=strict.url, verify=NO_TLS))
            for _ in range(MAX_CONNECTIONS)
        ]
        for client in inside:
            assert client.get("/livez").status_code == 200
        beyond = httpx.get(f"{strict.url}/models", timeout=20)
        assert beyond.status_code == 503
        assert beyond.headers["retry-after"] == "1"
        assert beyond.headers["connection"] == "close"
        assert "LOGITSERVE_MAX_CONNECTIONS" in beyond.json()["detail"]
        for path in ("/livez", "/readyz", "/v2/health/ready"):
            assert httpx.get(f"{strict.url}{path}", timeout=20).status_code == 200
        for client in inside:
            assert client.get("/models").status_code == 200
    wait_until(lambda: httpx.get(f"{strict.url}/models", timeout=20).status_code == 200)


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * 1_000_000,),
        (b"GET /livez HTTP/1.1\r\nX-Long: ", *[b"x" * 10_000] * 100),
        (b"GET /livez HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n",),
        (b"GET /livez HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",),
        (b"GET /livez?" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",),
    ],
    ids=["long at once", "long in parts", "many", "some more than allowed", "long address"],
)
def test_a_head_that_is_too_large(strict: Server, parts: tuple[bytes, ...]) -> None:
    status, detail = problem(exchanged(strict, *parts))
    assert status == 431
    assert "65536 bytes or 128 fields" in detail


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (HEAD + b"Content-Length: 100\r\n\r\n12345", 408),
        (b"GET /livez HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_what_breaks_early_has_an_id_too(strict: Server, sent: bytes, status: int) -> None:
    answer = exchanged(strict, sent)
    assert problem(answer)[0] == status
    for field in (b"\r\nx-request-id: ", b"\r\nx-content-type-options: nosniff"):
        assert field in answer


def test_a_large_head_that_is_allowed(strict: Server) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 500) for number in range(100))
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n"
    assert exchanged(strict, request).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"X-Folded: a\r\n b\x00\r\n\r\n",
    ],
)
def test_a_malformed_request(strict: Server, request_: bytes) -> None:
    status, detail = problem(exchanged(strict, request_))
    assert status == 400
    assert "HTTP/1.1" in detail


def test_many_requests_at_once_are_answered_in_order(strict: Server) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchanged(strict, b"".join(get % number for number in range(8000)) + last)
    ids = re.findall(rb"x-request-id: (\d+)\r\n", answer)
    assert [int(number) for number in ids] == list(range(8000))


@pytest.mark.parametrize("path", ["/livez", "/predict"])
@pytest.mark.parametrize(
    ("version", "hosts", "text"),
    [
        ("1.1", [], "must have a Host header field"),
        ("1.1", ["a", "b"], "the header field host occurs twice"),
        ("1.1", ["a", "a"], "the header field host occurs twice"),
        ("1.0", ["a", "b"], "the header field host occurs twice"),
    ],
)
def test_a_request_has_one_host(
    strict: Server, path: str, version: str, hosts: list[str], text: str
) -> None:
    fields = "".join(f"Host: {host}\r\n" for host in hosts)
    line = f"GET {path} HTTP/{version}\r\nConnection: close\r\n"
    status, detail = problem(exchanged(strict, f"{line}{fields}\r\n".encode()))
    assert status == 400
    assert text in detail


@pytest.mark.parametrize("line", ["GET /livez HTTP/1.0\r\n", "GET /livez HTTP/1.1\r\nHost:\r\n"])
def test_http_1_0_needs_no_host_and_a_host_may_be_empty(strict: Server, line: str) -> None:
    answer = exchanged(strict, f"{line}Connection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def test_an_offer_of_another_protocol_is_declined(strict: Server) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchanged(strict, get * 1000 + last)
    assert answer.count(b"HTTP/1.1 200 ") == 1001


def test_an_offer_of_another_protocol_with_a_body(strict: Server) -> None:
    offering = HEAD + OFFER + b"Content-Length: 3\r\n\r\nabc"
    last = HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    assert exchanged(strict, offering + last).count(b"HTTP/1.1 422 ") == 2


def test_a_client_that_closes_its_sending_side_is_answered(strict: Server) -> None:
    body = png(random_picture(0))
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_who_sends_too_much_can_read_why(strict: Server) -> None:
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: 20000000\r\n\r\n")
        for _ in range(200):
            connection.sendall(bytes(100_000))
        assert problem(read_all(connection))[0] == 413


def test_as_many_files_as_connections_need(models: tuple[Path, Weights]) -> None:
    for hard, allowed in ((5000, 1300), (600, 600)):
        wrapper = ("prlimit", f"--nofile=300:{hard}")
        folder = ("--models", str(models[0]), "--linger-seconds", "0.1")
        with running(*folder, wrapper=wrapper) as server:
            process = psutil.Process(server.process.pid)
            assert process.rlimit(psutil.RLIMIT_NOFILE) == (allowed, hard)
            warned = "LOGITSERVE_MAX_CONNECTIONS" in "".join(server.log)
            assert warned == (allowed == 600)
