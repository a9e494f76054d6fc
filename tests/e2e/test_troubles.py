"""What goes wrong is in the log by default, with what it takes to find the cause."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests import tiny_models
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.sockets import connect, read_all
from tests.forms import pb
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

KEY = "a-key-of-the-test"
HEADERS = {"x-api-key": KEY, "x-request-id": "the-request", "connection": "close"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("troubles") / "models"
    tiny_models.publish(models, name="tiny")
    tiny_models.publish(models, name="other")
    return models


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    options = (
        *("--models", str(folder), "--log-format", "json", "--grpc-port", "0"),
        *("--max-connections", "4", "--header-timeout-seconds", "0.5", "--max-queue", "1"),
    )
    environment = clean_environment(LOGITSERVE_API_KEY=KEY)
    with running(*options, environment=environment) as started:
        yield started


def predict(server: Server, **headers: str) -> int:
    files = [("file", png(random_picture(0)))]
    url = f"{server.url}/models/tiny/predict"
    return httpx.post(url, files=files, headers={**HEADERS, **headers}).status_code


def overload(server: Server) -> int:
    files = [("file", png(random_picture(0)))] * 64
    url = f"{server.url}/models/tiny/predict"
    return httpx.post(url, files=files, headers=HEADERS).status_code


def too_many_connections(server: Server) -> int:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(b"G")
        return predict(server)


def broken(server: Server, request: bytes) -> int:
    with connect(server) as connection:
        connection.sendall(request)
        return int(read_all(connection).split()[1])


def by_grpc(server: Server) -> int:
    with grpc.insecure_channel(server.grpc_address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        with contextlib.suppress(grpc.RpcError):
            infer(pb.ModelInferRequest(model_name="tiny"), timeout=20)
    return 401


LONG = b"x" * 70_000
TROUBLES: dict[str, tuple[Callable[[Server], int], dict[str, Any]]] = {
    "queue": (
        overload,
        {"status": 429, "problem": "QueueFullError", "model": "tiny", "version": "1"},
    ),
    "deadline": (
        lambda server: predict(server, **{"x-request-timeout-ms": "1"}),
        {"status": 504, "problem": "DeadlineError", "request_id": "the-request"},
    ),
    "connections": (too_many_connections, {"status": 503, "problem": "TooManyConnectionsError"}),
    "key": (
        lambda server: predict(server, **{"x-api-key": "wrong"}),
        {"status": 401, "problem": "UnauthenticatedError", "route": "/models/{name}/predict"},
    ),
    "scrape": (
        lambda server: httpx.get(f"{server.url}/metrics").status_code,
        {"status": 401, "method": "GET"},
    ),
    "admin": (
        lambda server: (
            httpx.post(f"{server.url}/v2/repository/models/tiny/load", headers=HEADERS).status_code
        ),
        {"status": 403, "request_id": "the-request"},
    ),
    "not HTTP": (
        lambda server: broken(server, b"\x16\x03\x01 hello\r\n\r\n"),
        {"status": 400, "problem": "UnreadableRequestError", "route": "other"},
    ),
    "slow head": (
        lambda server: broken(server, b"GET / HTTP/1.1\r\n"),
        {"status": 408, "problem": "HeadTimeoutError"},
    ),
    "long head": (
        lambda server: broken(server, b"GET / HTTP/1.1\r\na: " + LONG + b"\r\n\r\n"),
        {"status": 431, "problem": "HeadTooLargeError"},
    ),
    "gRPC": (by_grpc, {"status": 401, "route": "ModelInfer"}),
}


@pytest.mark.parametrize("which", TROUBLES)
def test_a_trouble_is_in_the_log(server: Server, which: str) -> None:
    make, fields = TROUBLES[which]
    known = len(server.log)

    def is_logged() -> bool:
        lines = [json.loads(line) for line in list(server.log)[known:]]
        return any(
            line.get("level") == "warning" and fields.items() <= line.items() for line in lines
        )

    def happens() -> bool:
        """Again, as one a second is logged of a kind."""
        assert make(server) in {fields["status"], 200}
        return is_logged()

    wait_until(happens, lambda: "".join(server.log[known:]))


def test_what_clients_get_wrong_leaves_no_line(server: Server) -> None:
    with httpx.Client(base_url=server.url, headers=HEADERS) as client:
        assert client.post("/models/digits/predict", content=b"x").status_code == 404
        assert client.post("/models/tiny/predict", content=b"x").status_code == 422
        assert client.post("/v2/models/tiny/infer", content=b"{").status_code == 400
    assert predict(server) == 200
    for words in ("/models/digits", " 422", "not JSON"):
        assert words not in "".join(server.log)


def test_readiness_is_said_when_it_changes(folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(folder, models)
    with running("--models", str(models), "--watch-seconds", "0.1") as server:
        for name in ("other", "tiny"):
            (models / name).rename(tmp_path / name)
        wait_until(lambda: "WARNING" in "".join(server.log))
        wait_until(lambda: "not ready: no model is loaded" in "".join(server.log))
        (tmp_path / "tiny").rename(models / "tiny")
        wait_until(lambda: "ready again" in "".join(server.log))
        assert server.stop() == 0
    assert "not ready: the service is stopping" in "".join(server.log)
