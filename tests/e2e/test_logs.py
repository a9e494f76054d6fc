"""Lines that people and machines can read, and that strangers cannot forge."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.e2e.metrics import total, wait_until
from tests.e2e.process import Server
from tests.e2e.sockets import connect
from tests.tiny_models import png, random_picture

PNG = {"content-type": "image/png"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def logged(server: Server, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The one record for which something holds; waits until it is there."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [record for line in list(server.log) if holds(record := orjson.loads(line))]
        return bool(found)

    wait_until(is_there)
    assert len(found) == 1
    return found[0]


def test_a_line_an_answer(server: Server) -> None:
    response = server.client.post(
        "/predict?top_k=3",
        content=png(random_picture(0)),
        headers={**PNG, "x-request-id": "first"},
    )
    line = logged(server, lambda record: record.get("request_id") == "first")
    assert line["logger"] == "logitserve.access"
    assert line["level"] == "info"
    assert line["time"].endswith("Z")
    assert (line["method"], line["route"], line["path"]) == ("POST", "/predict", "/predict")
    assert (line["status"], line["bytes"]) == (200, len(response.content))
    assert line["client"] == "127.0.0.1"
    assert 0 < line["seconds"] < 60
    assert line["pid"] > 1
    assert "top_k" not in "".join(server.log)


@pytest.mark.parametrize("path", ["/explain", "/models/digits/explain", "/models/digits/preview"])
def test_the_model_that_a_document_is_about_is_recorded(server: Server, path: str) -> None:
    """Also where the request names none."""
    route = path.replace("digits", "{name}")

    def answered() -> float:
        of = {"model": "digits", "route": route, "status": "200"}
        return total(server.url, "requests_total", headers=None, **of)

    before = answered()
    response = server.client.post(
        path, content=png(random_picture(0)), headers={**PNG, "x-request-id": f"about{path}"}
    )
    assert response.status_code == 200, response.text
    line = logged(server, lambda record: record.get("request_id") == f"about{path}")
    assert (line["model"], line["version"], line["route"]) == ("digits", "2", route)
    assert answered() == before + 1


def test_probes_leave_no_line(server: Server) -> None:
    for path in ("/livez", "/readyz", "/v2/health/ready", "/metrics"):
        server.client.get(path, headers={"x-request-id": f"quiet{path}"})
    server.client.get("/models", headers={"x-request-id": "after-the-quiet"})
    logged(server, lambda record: record.get("request_id") == "after-the-quiet")
    assert "quiet/" not in "".join(server.log)


def test_two_traces_are_none(server: Server) -> None:
    given = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    response = server.client.get("/models", headers=[given, given])
    request_id = response.headers["x-request-id"]
    line = logged(server, lambda record: record.get("request_id") == request_id)
    assert "trace_id" not in line


def test_strangers_forge_no_line(server: Server) -> None:
    """Every line is JSON, whatever the path and the ids hold."""
    hostile = [
        b"GET /a%0Ab%0D%1b[2J HTTP/1.1\r\nhost: x\r\nx-request-id: a\x1b[2Jb\r\n\r\n",
        b'GET /\xff\xfe"} HTTP/1.1\r\nhost: x\r\nx-request-id: {"a":1}\r\n\r\n',
        b"GET /\xe2\x80\xa8x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /models/%F0%9F%98%80%0a/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    ]
    for request in hostile:
        with connect(server) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 4")
    headers = {"x-request-id": "after-the-hostile"}
    server.client.get("/models", headers=headers)
    logged(server, lambda record: record.get("request_id") == "after-the-hostile")
    for line in server.log:
        assert isinstance(orjson.loads(line), dict)
        assert len(line) < 4096
