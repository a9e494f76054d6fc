"""Few file descriptors: connections are limited to them, and probes are answered all the same."""

import contextlib
import socket
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.metrics import wait_until
from tests.e2e.process import running
from tests.e2e.profiles import ROOT
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

FILES, IDLE = 64, 200
FEW_FILES = ("prlimit", f"--nofile={FILES}:{FILES}")
FOLDER = ("--models", str(ROOT / "models"))


@pytest.mark.parametrize("workers", [1, 2])
def test_idle_connections_make_room(workers: int) -> None:
    options = (*FOLDER, "--workers", str(workers), "--keep-alive-seconds", "600")
    with running(*options, wrapper=FEW_FILES) as server, ExitStack() as stack:
        (line,) = [line for line in server.log if "ulimit -n" in line]
        assert "LOGITSERVE_MAX_CONNECTIONS is lowered from 1000 to 8" in line
        for _ in range(IDLE):
            stack.enter_context(contextlib.suppress(OSError))
            stack.enter_context(socket.create_connection(server.address, 5))
        for _ in range(8):
            for path in ("/livez", "/readyz", "/metrics"):
                headers = {"connection": "close"}
                assert httpx.get(f"{server.url}{path}", headers=headers).status_code == 200

        def is_answered() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.post(f"{server.url}/predict", content=png(random_picture(0)))
                return answer.status_code == 200
            return False

        wait_until(is_answered)
        assert server.stop() == 0
    log = "".join(server.log)
    assert "Traceback" not in log
    assert len(server.log) < 20, log


def test_too_few_files_are_said() -> None:
    with (
        pytest.raises(AssertionError, match=r"40 open files \(ulimit -n\), but needs 50"),
        running(*FOLDER, wrapper=("prlimit", "--nofile=40:40")),
    ):
        pytest.fail("it serves")
