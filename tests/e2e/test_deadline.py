"""Past its deadline a request gets 504, whatever it is waiting for."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import Weights
from tests.e2e.process import Server, running
from tests.e2e.test_bad_requests import assert_problem
from tests.tiny_models import png, random_picture

PNG = {"content-type": "image/png"}
GOOD = png(random_picture(0))
SECONDS = 20
MANY = {"pixels": [[[0] * 64] * 64] * 40}


def test_a_request_may_ask_for_less_time(client: httpx.Client) -> None:
    headers = {"X-Request-Timeout-Ms": "1"}
    response = client.post("/models/digits/predict", json=MANY, headers=headers)
    assert_problem(response, 504, "within its 1 ms", "LOGITSERVE_REQUEST_TIMEOUT_MS")
    assert response.headers["x-request-id"]
    headers = {"X-Request-Timeout-Ms": "19000"}
    assert client.post("/predict", json=MANY, headers=headers).status_code == 200
    assert client.post("/predict", content=GOOD, headers=PNG | headers).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/models/digits/predict", "/models"])
def test_a_deadline_that_is_none(client: httpx.Client, path: str) -> None:
    for value in ("0", "-5", "soon", "1.5"):
        headers = {"X-Request-Timeout-Ms": value}
        response = (
            client.get(path, headers=headers)
            if path == "/models"
            else client.post(path, content=GOOD, headers=PNG | headers)
        )
        assert_problem(response, 400, "X-Request-Timeout-Ms", repr(value), "milliseconds")


@pytest.mark.parametrize("path", ["/predict", "/models/digits/predict"])
def test_an_upload_counts_too(server: Server, path: str) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as raw:
        begun = time.monotonic()
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
            "content-length: 1000\r\nx-request-timeout-ms: 300\r\n\r\nbegun".encode()
        )
        assert raw.recv(65536).startswith(b"HTTP/1.1 504 ")
        assert time.monotonic() - begun >= 0.3


def test_a_request_cannot_ask_for_more_time(models: tuple[Path, Weights]) -> None:
    with running("--models", str(models[0]), "--request-timeout-ms", "1") as server:
        headers = {"X-Request-Timeout-Ms": "60000"}
        for given in ({}, headers):
            response = httpx.post(
                f"{server.url}/predict", json=MANY, headers=given, timeout=SECONDS
            )
            assert_problem(response, 504, "within its 1 ms")
        assert httpx.get(f"{server.url}/livez", timeout=SECONDS).status_code in {200, 504}
