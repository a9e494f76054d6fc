"""What a container asks of its service, every few seconds."""

import http.server
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from tests.e2e.process import Server, clean_environment, running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.publish(folder, name="digits")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with running("--models", str(models)) as started:
        yield started


def healthcheck(**environment: str) -> tuple[int, str]:
    """Exit status, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "logitserve.healthcheck"],
        env=clean_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def port(server: Server) -> str:
    return str(urllib.parse.urlsplit(server.url).port)


@pytest.mark.parametrize("variable", ["LOGITSERVE_PORT", "PORT"])
@pytest.mark.parametrize("host", [{}, {"LOGITSERVE_HOST": "0.0.0.0"}, {"LOGITSERVE_HOST": ""}])  # noqa: S104
def test_a_ready_service_is_healthy(server: Server, variable: str, host: dict[str, str]) -> None:
    assert healthcheck(**{variable: port(server), **host}) == (0, "")


def test_the_services_own_variable_beats_the_platforms(server: Server) -> None:
    assert healthcheck(LOGITSERVE_PORT=port(server), PORT="1") == (0, "")


def test_a_link_to_a_service_called_logitserve_is_no_port(server: Server) -> None:
    link = "tcp://10.96.0.7:8000"
    assert healthcheck(LOGITSERVE_PORT=link, PORT=port(server)) == (0, "")


def test_a_service_that_does_not_answer_is_not_healthy() -> None:
    status, said = healthcheck(PORT="1")
    assert status == 1
    assert said == "no answer: [Errno 111] Connection refused\n"


class Draining(http.server.BaseHTTPRequestHandler):
    """Answers as the service does between SIGTERM and its end."""

    def do_GET(self) -> None:
        assert self.path == "/readyz"
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b"draining")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        del format, args


def test_a_service_that_is_not_ready_is_not_healthy() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Draining) as answering:
        thread = threading.Thread(target=answering.handle_request)
        thread.start()
        found = healthcheck(PORT=str(answering.server_port))
        thread.join()
    assert found == (1, "not ready (503): draining\n")


def test_a_port_that_is_none_is_said_in_one_line() -> None:
    status, said = healthcheck(PORT="http")
    assert status == 1
    assert said == "no answer: invalid literal for int() with base 10: 'http'\n"


def test_it_imports_nothing_of_the_service() -> None:
    program = (
        "import sys, logitserve.healthcheck; "
        "heavy = {'logitserve_service', 'logitserve.inference', 'pydantic', 'numpy', 'click'}; "
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
