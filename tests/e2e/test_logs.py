"""Lines that people and machines can read, and that strangers cannot forge."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, running
from tests.tiny_models import png, random_picture

PNG = {"content-type": "image/png"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def json_server(models: tuple[Path, Weights]) -> Iterator[Server]:
    with running(
        *("--models", str(models[0]), "--access-log", "true", "--log-format", "json")
    ) as server:
        yield server


def logged(server: Server, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The one record for which something holds; waits until it is there."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [record for line in list(server.log) if holds(record := orjson.loads(line))]
        return bool(found)

    wait_until(is_there)
    assert len(found) == 1
    return found[0]


def test_a_line_an_answer(json_server: Server) -> None:
    response = httpx.post(
        f"{json_server.url}/predict?secret=1",
        content=png(random_picture(0)),
        headers={**PNG, "x-request-id": "first"},
    )
    line = logged(json_server, lambda record: record.get("request_id") == "first")
    assert line["logger"] == "logitserve.access"
    assert line["level"] == "info"
    assert line["time"].endswith("Z")
    assert (line["method"], line["route"], line["path"]) == ("POST", "/predict", "/predict")
    assert (line["status"], line["bytes"]) == (200, len(response.content))
    assert line["client"] == "127.0.0.1"
    assert 0 < line["seconds"] < 60
    assert line["pid"] > 1
    assert "secret" not in "".join(json_server.log)


def test_the_route_is_not_the_path(json_server: Server) -> None:
    headers = {**PNG, "x-request-id": "named"}
    httpx.post(f"{json_server.url}/models/none/predict", content=b"", headers=headers)
    line = logged(json_server, lambda record: record.get("request_id") == "named")
    assert line["route"] == "/models/{name}/predict"
    assert line["path"] == "/models/none/predict"
    assert line["status"] == 404


def test_probes_leave_no_line(json_server: Server) -> None:
    for path in ("/livez", "/readyz", "/v2/health/ready", "/metrics"):
        httpx.get(f"{json_server.url}{path}", headers={"x-request-id": f"quiet{path}"})
    httpx.get(f"{json_server.url}/models", headers={"x-request-id": "after-the-quiet"})
    logged(json_server, lambda record: record.get("request_id") == "after-the-quiet")
    assert "quiet/" not in "".join(json_server.log)


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"42-{TRACE}-{PARENT}-01-more", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        ("", False),
    ],
)
def test_a_trace_is_continued(json_server: Server, given: str, *, continued: bool) -> None:
    response = httpx.get(f"{json_server.url}/models", headers={"traceparent": given})
    request_id = response.headers["x-request-id"]
    line = logged(json_server, lambda record: record.get("request_id") == request_id)
    assert line.get("trace_id") == (TRACE if continued else None)
    if continued:
        assert len(line["span_id"]) == 16
        assert line["span_id"] != PARENT


def test_two_traces_are_none(json_server: Server) -> None:
    given = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    response = httpx.get(f"{json_server.url}/models", headers=[given, given])
    request_id = response.headers["x-request-id"]
    line = logged(json_server, lambda record: record.get("request_id") == request_id)
    assert "trace_id" not in line


def test_strangers_forge_no_line(json_server: Server) -> None:
    """Every line is JSON, whatever the path and the ids hold."""
    hostile = [
        b"GET /a%0Ab%0D%1b[2J HTTP/1.1\r\nhost: x\r\nx-request-id: a\x1b[2Jb\r\n\r\n",
        b'GET /\xff\xfe"} HTTP/1.1\r\nhost: x\r\nx-request-id: {"a":1}\r\n\r\n',
        b"GET /\xe2\x80\xa8x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /models/%F0%9F%98%80%0a/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    ]
    address = httpx.URL(json_server.url)
    for request in hostile:
        with socket.create_connection((address.host, address.port or 0), timeout=30) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 4")
    headers = {"x-request-id": "after-the-hostile"}
    httpx.get(f"{json_server.url}/models", headers=headers)
    logged(json_server, lambda record: record.get("request_id") == "after-the-hostile")
    for line in json_server.log:
        assert isinstance(orjson.loads(line), dict)
        assert len(line) < 4096


def test_what_is_left_is_written_at_the_end(models: tuple[Path, Weights]) -> None:
    options = ("--models", str(models[0]), "--access-log", "true")
    with running(*options) as server:
        for number in range(50):
            httpx.get(f"{server.url}/models", headers={"x-request-id": f"number-{number}."})
        assert server.stop() == 0
    log = "".join(server.log)
    assert all(log.count(f"request_id=number-{number}.") == 1 for number in range(50))
    assert '"GET /models" 200' in log


def test_a_refused_model_has_a_line(tmp_path: Path, models: tuple[Path, Weights]) -> None:
    newer = tmp_path / "digits/2/model.onnx"
    newer.parent.mkdir(parents=True)
    older = tmp_path / "digits/1/model.onnx"
    older.parent.mkdir(parents=True)
    older.write_bytes((models[0] / "digits/1/model.onnx").read_bytes())
    newer.write_bytes(older.read_bytes()[:1000])
    with running("--models", str(tmp_path), "--log-format", "json") as server:
        line = logged(server, lambda record: record["level"] == "error")
    assert line["logger"] == "logitserve.models"
    assert "digits version 2 is refused" in line["message"]
