"""The clock of the machine is set while the service runs: nothing that waits follows it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests import tiny_models
from tests.e2e.metrics import total, wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.sockets import connect, read_all
from tests.tiny_models import png, random_picture

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: run `make programs`")


def said(server: Server) -> datetime:
    """The time of the last line of the log."""
    return datetime.fromisoformat(server.log[-1].split(maxsplit=1)[0])


def ask(server: Server, path: str = "/predict") -> dict[str, str]:
    answer = httpx.post(f"{server.url}{path}", content=png(random_picture(0)), timeout=20)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("days", [3, -3])
def test_a_step_of_the_clock_is_not_felt(tmp_path: Path, days: int) -> None:
    tiny_models.publish(tmp_path / "models", name="tiny")
    step = tmp_path / "step"
    step.write_text("+0")
    environment = clean_environment(
        LD_PRELOAD=str(LIBRARY),
        FAKETIME_TIMESTAMP_FILE=str(step),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        NO_FAKE_STAT="1",
    )
    options = ("--models", str(tmp_path / "models"), "--workers", "2", "--access-log", "true")
    with running(*options, environment=environment) as server:
        ask(server)
        assert abs(said(server) - datetime.now(UTC)) < timedelta(hours=1)
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 3000\r\n"
        with connect(server) as waiting, connect(server) as idle:
            waiting.sendall(head + b"Content-Length: 9\r\n\r\n")
            step.write_text(f"{days:+d}d")
            for _ in range(50):
                ask(server)
            moved = datetime.now(UTC) + timedelta(days=days)
            assert abs(said(server) - moved) < timedelta(hours=1)
            assert read_all(waiting).startswith(b"HTTP/1.1 504 ")
            idle.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(idle).startswith(b"HTTP/1.1 200 ")
        tiny_models.publish(tmp_path / "models", name="tiny", version="2")
        wait_until(lambda: ask(server)["version"] == "2")
        assert total(server.url, "worker_exits_total") == 0
