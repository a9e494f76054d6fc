"""Keys: nobody is answered without one where they are set, and none of them is ever shown."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from logitserve_service.http.routes.probes import PROBES
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.test_bad_requests import assert_problem
from tests.tiny_models import png, random_picture

PNG = {"content-type": "image/png"}
GOOD = png(random_picture(0))
OLD, NEW, ADMIN = "old-key-1", "new-key-2", "admin-key-3"
SECONDS = 20


@pytest.fixture(scope="module")
def locked(models: tuple[Path, Weights]) -> Iterator[Server]:
    """A server that asks for keys; two API keys and an admin key are valid."""
    environment = clean_environment(
        LOGITSERVE_API_KEY=f"{OLD},{NEW}", LOGITSERVE_ADMIN_KEY=ADMIN, LOGITSERVE_LOG_LEVEL="debug"
    )
    options = ("--models", str(models[0]), "--access-log", "true", "--grpc-port", "0")
    with running(*options, environment=environment) as started:
        yield started
    log = "".join(started.log)
    for key in (OLD, NEW, ADMIN, "wrong-key"):
        assert key not in log


@pytest.fixture
def ask(locked: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=locked.url, timeout=SECONDS) as opened:
        yield opened


def assert_refused(response: httpx.Response, word: str) -> None:
    assert_problem(response, 401, word, "Authorization: Bearer KEY", "X-API-Key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predict"),
        ("POST", "/predict?top_k=1"),
        ("POST", "/models/digits/predict"),
        ("POST", "/models/digits/preview"),
        ("GET", "/models"),
        ("GET", "/models/digits"),
        ("GET", "/models/digits/report"),
        ("GET", "/metrics"),
        ("GET", "/v2"),
        ("POST", "/v2/models/digits/infer"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("POST", "/v1/models/digits:predict"),
        ("GET", "/nowhere"),
        ("GET", "/livez/"),
        ("GET", "/web/../models"),
        ("GET", "/web/%2e%2e/models"),
        ("OPTIONS", "/predict"),
    ],
)
def test_without_a_key_nothing_is_answered(ask: httpx.Client, method: str, path: str) -> None:
    url = httpx.URL(f"{ask.base_url}".rstrip("/")).copy_with(raw_path=path.encode())
    headers = PNG if method == "POST" else {}
    content = GOOD if method == "POST" else None
    assert_refused(ask.request(method, url, content=content, headers=headers), "missing")
    headers = {**headers, "authorization": "Bearer wrong-key"}
    assert_refused(ask.request(method, url, content=content, headers=headers), "not valid")


@pytest.mark.parametrize("path", [*sorted(PROBES), "/", "/web/page.js", "/docs", "/openapi.json"])
def test_probes_the_page_and_the_documentation_need_no_key(ask: httpx.Client, path: str) -> None:
    assert ask.get(path).status_code == 200


@pytest.mark.parametrize("key", [OLD, NEW, ADMIN])
@pytest.mark.parametrize("form", ["Bearer", "bearer", "X-API-Key"])
def test_each_key_will_do_in_each_form(ask: httpx.Client, key: str, form: str) -> None:
    header = {form: key} if form == "X-API-Key" else {"Authorization": f"{form} {key}"}
    for path in ("/predict", "/models/digits/predict"):
        answer = ask.post(path, content=GOOD, headers={**PNG, **header})
        assert answer.status_code == 200, answer.text
    assert ask.get("/metrics", headers=header).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": f"Basic {OLD}"},
        {"Authorization": OLD},
        {"Authorization": "Bearer"},
        {"X-API-Key": ""},
        {"X-API-Key": f"{OLD},{NEW}"},
        {"X-API-Key": OLD[:-1]},
        {"X-API-Key": OLD + "1"},
        {"X-API-Key": "x" * 30_000},
    ],
)
def test_what_is_nearly_a_key_is_none(ask: httpx.Client, header: dict[str, str]) -> None:
    assert ask.get("/models", headers=header).status_code == 401


def test_a_byte_beyond_ascii_is_no_key(ask: httpx.Client) -> None:
    headers = [(b"x-api-key", b"\xff\xfe"), (b"authorization", b"Bearer \xc3\xa4")]
    assert ask.get("/models", headers=headers).status_code == 401


def test_changes_need_the_admin_key(ask: httpx.Client) -> None:
    path = "/v2/repository/models/nowhere/load"
    assert_refused(ask.post(path), "missing")
    assert_problem(ask.post(path, headers={"X-API-Key": OLD}), 403, "admin key")
    assert_problem(ask.post(path, headers={"X-API-Key": ADMIN}), 404, "nowhere")


def test_without_an_admin_key_nobody_may_change_anything(client: httpx.Client) -> None:
    for headers in ({}, {"X-API-Key": "anything"}):
        response = client.post("/v2/repository/models/digits/unload", headers=headers)
        assert_problem(response, 403, "LOGITSERVE_ADMIN_KEY")


def test_an_admin_key_alone_leaves_the_rest_open(models: tuple[Path, Weights]) -> None:
    environment = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN)
    with running("--models", str(models[0]), environment=environment) as server:
        assert httpx.get(f"{server.url}/models", timeout=SECONDS).status_code == 200
        url = f"{server.url}/v2/repository/models/nowhere/unload"
        assert_refused(httpx.post(url, timeout=SECONDS), "missing")
        assert_refused(httpx.post(url, headers={"X-API-Key": OLD}, timeout=SECONDS), "not valid")


@pytest.mark.parametrize("path", ["/predict", "/models/digits/predict"])
def test_a_body_without_a_key_is_not_read(locked: Server, path: str) -> None:
    """100 MB are announced; the answer comes, and the connection ends, before they are sent."""
    address = urlsplit(locked.url)
    size = 100_000_000
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
            f"content-length: {size}\r\n\r\n".encode()
        )
        answer = raw.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in answer.lower()
        while chunk := raw.recv(65536):
            answer += chunk
        assert b"X-API-Key" in answer
        sent, ending = 0, time.monotonic() + SECONDS
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe, as the kernel has it
            while time.monotonic() < ending:
                sent += raw.send(b"\x00" * 65536)
                assert sent < size
                time.sleep(0.01)


def test_grpc_asks_for_the_same_keys(locked: Server) -> None:
    from logitserve_service.server.grpc import inference_pb2 as pb

    (port,) = [line.rsplit(" ", 1)[1].strip() for line in locked.log if "serving gRPC" in line]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def call(name: str, request: Any, answer: Any, *metadata: tuple[str, str]) -> Any:
            method = channel.unary_unary(
                f"/inference.GRPCInferenceService/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return method(request, metadata=metadata, timeout=SECONDS)

        assert call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
        assert call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
        wanted = (pb.ModelReadyRequest(name="digits"), pb.ModelReadyResponse)
        for metadata in ([], [("x-api-key", "wrong-key")], [("authorization", f"Basic {OLD}")]):
            with pytest.raises(grpc.RpcError) as refused:
                call("ModelReady", *wanted, *metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "X-API-Key" in refused.value.details()
        for metadata in ([("x-api-key", OLD)], [("authorization", f"Bearer {ADMIN}")]):
            assert call("ModelReady", *wanted, *metadata).ready


def test_a_file_of_keys_is_followed(models: tuple[Path, Weights], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{OLD}\n")
    options = ("--models", str(models[0]), "--api-key-file", str(file))
    with running(*options) as server:

        def status(key: str) -> int:
            url = f"{server.url}/models"
            return httpx.get(url, headers={"X-API-Key": key}, timeout=SECONDS).status_code

        def wait_for(key: str, wanted: int) -> None:
            ending = time.monotonic() + SECONDS
            while status(key) != wanted:
                assert time.monotonic() < ending
                time.sleep(0.05)

        assert (status(OLD), status(NEW)) == (200, 401)
        file.write_text(f"{OLD}\r\n\r\n{NEW}\r\n")
        wait_for(NEW, 200)
        assert status(OLD) == 200
        replacement = tmp_path / "replacement"
        replacement.write_text(NEW)
        replacement.replace(file)
        wait_for(OLD, 401)
        assert status(NEW) == 200
        for broken in ("", "two words", "ä"):
            file.write_text(broken)
            ending = time.monotonic() + SECONDS
            lines = len(server.log)
            while not any("stay as they are" in line for line in server.log[lines:]):
                assert status(NEW) == 200
                assert time.monotonic() < ending
                time.sleep(0.05)
        file.unlink()
        assert status(NEW) == 200


def test_keys_that_cannot_be_are_refused_at_the_start(models: tuple[Path, Weights]) -> None:
    for variable, sources in (
        ("LOGITSERVE_API_KEY", "set LOGITSERVE_API_KEY\n"),
        ("LOGITSERVE_API_KEY_FILE", "set --api-key-file or LOGITSERVE_API_KEY_FILE\n"),
    ):
        environment = clean_environment(**{variable: "two secret"})
        status, printed = run("serve", "--models", str(models[0]), environment=environment)
        assert status == 1
        assert len(printed.strip().splitlines()) == 1, printed
        assert printed.endswith(sources)
        assert "secret" not in printed or "FILE" in variable


def test_a_key_is_no_option(models: tuple[Path, Weights]) -> None:
    for option in ("--api-key", "--admin-key"):
        status, printed = run("serve", "--models", str(models[0]), option, "secret")
        assert status == 2
        assert "No such option" in printed
