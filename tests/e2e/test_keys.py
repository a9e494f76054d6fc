"""Keys: nobody is answered without one where they are set, and none of them is ever shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.problems import assert_problem
from tests.e2e.process import Server, clean_environment, refused, run, running
from tests.e2e.profiles import ADMIN_KEY, NEW_KEY, OLD_KEY, PROBES
from tests.e2e.sockets import connect, read_response, request
from tests.forms import FORMS, RAW, Ask, Form, pb
from tests.tiny_models import random_picture

IMAGE = random_picture(0)
SECONDS = 20


@pytest.fixture
def ask(locked: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=locked.url, timeout=SECONDS) as opened:
        yield opened


def assert_refused(response: httpx.Response, word: str) -> None:
    assert_problem(response, 401, word, "Authorization: Bearer KEY", "X-API-Key")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predict"),
        ("POST", "/predict?top_k=1"),
        ("POST", "/models/digits/preview"),
        ("POST", "/models/digits/explain"),
        ("POST", "/explain"),
        ("GET", "/models"),
        ("GET", "/models/digits"),
        ("GET", "/models/digits/report"),
        ("GET", "/metrics"),
        ("GET", "/v2"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("GET", "/nowhere"),
        ("GET", "/livez/"),
        ("GET", "/web/../models"),
        ("GET", "/web/%2e%2e/models"),
        ("OPTIONS", "/predict"),
    ],
)
def test_without_a_key_nothing_is_answered(ask: httpx.Client, method: str, path: str) -> None:
    url = httpx.URL(f"{ask.base_url}".rstrip("/")).copy_with(raw_path=path.encode())
    assert_refused(ask.request(method, url), "missing")
    headers = {"authorization": "Bearer wrong-key"}
    assert_refused(ask.request(method, url, headers=headers), "not valid")


@pytest.mark.parametrize("path", [*sorted(PROBES), "/", "/web/page.js", "/docs", "/openapi.json"])
def test_probes_the_page_and_the_documentation_need_no_key(ask: httpx.Client, path: str) -> None:
    assert ask.get(path).status_code == 200


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_each_key_will_do_in_each_form(locked: Server, form: Form) -> None:
    for key in (OLD_KEY, NEW_KEY, ADMIN_KEY):
        for field in (
            ("X-API-Key", key),
            ("Authorization", f"Bearer {key}"),
            ("Authorization", f"bearer {key}"),
        ):
            assert form.send(locked, Ask([IMAGE], fields=[field])).status == 200


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": f"Basic {OLD_KEY}"},
        {"Authorization": OLD_KEY},
        {"Authorization": "Bearer"},
        {"X-API-Key": ""},
        {"X-API-Key": f"{OLD_KEY},{NEW_KEY}"},
        {"X-API-Key": OLD_KEY[:-1]},
        {"X-API-Key": OLD_KEY + "1"},
        {"X-API-Key": "x" * 30_000},
    ],
)
def test_what_is_nearly_a_key_is_none(ask: httpx.Client, header: dict[str, str]) -> None:
    assert ask.get("/models", headers=header).status_code == 401
    assert ask.post("/predict", headers=header).status_code == 401


def test_a_byte_beyond_ascii_is_no_key(ask: httpx.Client) -> None:
    headers = [(b"x-api-key", b"\xff\xfe"), (b"authorization", b"Bearer \xc3\xa4")]
    assert ask.get("/models", headers=headers).status_code == 401
    assert ask.post("/predict", headers=headers).status_code == 401


def test_changes_need_the_admin_key(ask: httpx.Client) -> None:
    path = "/v2/repository/models/nowhere/load"
    assert_refused(ask.post(path), "missing")
    assert_problem(ask.post(path, headers={"X-API-Key": OLD_KEY}), 403, "admin key")
    assert_problem(ask.post(path, headers={"X-API-Key": ADMIN_KEY}), 404, "nowhere")


def test_without_an_admin_key_nobody_may_change_anything(client: httpx.Client) -> None:
    for headers in ({}, {"X-API-Key": "anything"}):
        response = client.post("/v2/repository/models/digits/unload", headers=headers)
        assert_problem(response, 403, "LOGITSERVE_ADMIN_KEY")


def test_grpc_asks_for_the_same_keys(locked: Server) -> None:
    with grpc.insecure_channel(locked.grpc_address) as channel:

        def call(name: str, message: Any, answer: Any, *metadata: tuple[str, str]) -> Any:
            method = channel.unary_unary(
                f"/inference.GRPCInferenceService/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return method(message, metadata=metadata, timeout=SECONDS)

        assert call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
        assert call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
        wanted = (pb.ModelReadyRequest(name="digits"), pb.ModelReadyResponse)
        with pytest.raises(grpc.RpcError) as error:
            call("ModelReady", *wanted)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert call("ModelReady", *wanted, ("x-api-key", OLD_KEY)).ready


@pytest.mark.drill
def test_a_file_of_keys_is_followed(models: tuple[Path, Weights], tmp_path: Path) -> None:
    """Also on a connection that used a key."""
    file = tmp_path / "keys"
    file.write_text(f"{OLD_KEY}\r\n\r\n{NEW_KEY}\r\n")
    options = ("--models", str(models[0]), "--api-key-file", str(file))
    with (
        running(*options) as server,
        connect(server) as connection,
        connection.makefile("rb") as answers,
    ):

        def status(key: str) -> int:
            connection.sendall(b"".join(request(RAW, Ask([IMAGE], fields=[("X-API-Key", key)]))))
            return read_response(answers)[0]

        assert (status(OLD_KEY), status(NEW_KEY)) == (200, 200)
        replacement = tmp_path / "replacement"
        replacement.write_text(NEW_KEY)
        file.write_text("two words")
        wait_until(lambda: any("the old keys stay valid" in line for line in poked(server)))
        assert status(OLD_KEY) == status(NEW_KEY) == 200
        replacement.replace(file)
        wait_until(lambda: status(OLD_KEY) == 401)
        assert server.client.get("/models", headers={"X-API-Key": NEW_KEY}).status_code == 200


def poked(server: Server) -> list[str]:
    """The log, after a request at which the server looks at its files."""
    server.client.get("/models", headers={"X-API-Key": "any"})
    return server.log


def test_an_admin_key_alone_leaves_the_rest_open(models: tuple[Path, Weights]) -> None:
    environment = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY)
    with running("--models", str(models[0]), environment=environment) as server:
        assert server.client.get("/models").status_code == 200
        path = "/v2/repository/models/nowhere/unload"
        assert_refused(server.client.post(path), "missing")
        assert_refused(server.client.post(path, headers={"X-API-Key": OLD_KEY}), "not valid")


def test_keys_that_cannot_be_are_refused_at_the_start() -> None:
    for variable, sources in (
        ("LOGITSERVE_API_KEY", "set LOGITSERVE_API_KEY\n"),
        ("LOGITSERVE_API_KEY_FILE", "set --api-key-file or LOGITSERVE_API_KEY_FILE\n"),
    ):
        printed = refused(**{variable: "two secret"})
        assert printed.endswith(sources)
        assert "secret" not in printed or "FILE" in variable


def test_a_key_is_no_option() -> None:
    for option in ("--api-key", "--admin-key"):
        status, printed = run("serve", option, "secret")
        assert status == 2
        assert "No such option" in printed
