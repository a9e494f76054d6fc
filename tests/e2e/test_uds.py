"""`--uds`: the service on a Unix socket, as a proxy or a sidecar on the same host asks it."""

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.test_behind_a_proxy import CALLER, client_of
from tests.e2e.test_tls import make_certificate
from tests.forms import HTTP_FORMS, Ask, Form
from tests.tiny_models import random_picture


def opened(server: Server) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=server.url.removeprefix("unix:"))
    return httpx.Client(base_url="http://localhost", transport=transport, timeout=30)


@pytest.fixture(scope="module")
def server(
    models: tuple[Path, Weights], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("run") / "socket"
    options = ("--models", str(models[0]), "--workers", "2", "--grpc-port", "0")
    logs = ("--access-log", "true", "--log-format", "json")
    environment = clean_environment(LOGITSERVE_UDS=str(path))
    with running(*options, *logs, environment=environment) as started:
        started.__dict__["client"] = opened(started)
        yield started


@pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
def test_every_form(server: Server, form: Form) -> None:
    assert form.read(form.send(server, Ask([random_picture(0)]))).shape == (1, 10)


def test_who_may_connect_the_folder_says(server: Server) -> None:
    path = Path(server.url.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_the_proxy_at_the_other_end_is_believed(server: Server) -> None:
    """As gunicorn believes it: only who may reach the folder can connect."""
    answer = server.client.get("/models", headers={"x-forwarded-for": CALLER})
    assert client_of(server, answer.headers["x-request-id"]) == CALLER


def healthcheck(**environment: str) -> int:
    command = [sys.executable, "-m", "logitserve.healthcheck"]
    done = subprocess.run(
        command, env=clean_environment(**environment), capture_output=True, check=False
    )
    return done.returncode


def test_the_health_check_asks_there(server: Server, tmp_path: Path) -> None:
    assert healthcheck(LOGITSERVE_UDS=server.url.removeprefix("unix:")) == 0
    assert healthcheck(LOGITSERVE_UDS=str(tmp_path / "none")) == 1


def test_with_tls(models: tuple[Path, Weights], tmp_path: Path) -> None:
    certificate, key = map(str, make_certificate(tmp_path, "local"))
    environment = {
        "LOGITSERVE_UDS": str(tmp_path / "socket"),
        "LOGITSERVE_TLS_CERTIFICATE": certificate,
        "LOGITSERVE_TLS_KEY": key,
    }
    with running("--models", str(models[0]), environment=clean_environment(**environment)):
        assert healthcheck(**environment) == 0


def test_a_file_that_was_left_is_replaced_and_removed_at_the_end(
    models: tuple[Path, Weights], tmp_path: Path
) -> None:
    """When what is in flight has been answered."""
    path = tmp_path / "socket"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    arguments = ("--models", str(models[0]), "--uds", str(path))
    with running(*arguments) as server:
        with opened(server) as client:
            assert client.get("/readyz").status_code == 200
            status, printed = run("serve", *arguments)  # the port is not needed
            assert status == 1
            assert "another process listens" in printed
            assert client.get("/readyz").status_code == 200
            server.process.terminate()
            wait_until(lambda: client.get("/readyz").status_code == 503)
            answer = client.post("/predict", content=b"x")
            assert answer.status_code == 422
            assert answer.headers["connection"] == "close"
        assert server.process.wait(30) == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "nowhere", "long"])
def test_what_cannot_be_listened_on(
    models: tuple[Path, Weights], tmp_path: Path, kind: str
) -> None:
    path = {
        "file": tmp_path / "file",
        "folder": tmp_path,
        "nowhere": tmp_path / "none/socket",
        "long": tmp_path / ("x" * 120),
    }[kind]
    (tmp_path / "file").write_text("kept")
    status, printed = run("serve", "--models", str(models[0]), "--uds", str(path))
    assert status == 1
    assert len(printed.strip().splitlines()) == 1
    assert str(path) in printed
    assert "--uds" in printed
    assert (tmp_path / "file").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
