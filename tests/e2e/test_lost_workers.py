"""Models that cost a worker its life, and workers that hang: the service goes on, and says so."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests import tiny_models
from tests.e2e.metrics import series, total, value, wait_until
from tests.e2e.process import Server, running
from tests.e2e.sockets import connect
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

LARGE = 3 * 2**30
HEADERS = {"content-type": "image/png", "connection": "close"}
WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Modes of files hold for root, too."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("other", "tiny"):
        tiny_models.publish(tmp_path / "models", name=name)
    return tmp_path / "models"


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def assert_serves(server: Server) -> None:
    for _ in range(10):  # any of the workers
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        for name in ("other", "tiny"):
            url = f"{server.url}/models/{name}/predict"
            answer = httpx.post(url, content=png(random_picture(0)), headers=HEADERS)
            assert answer.json()["version"] == "1"


def versions(server: Server, state: str) -> float:
    return value(server.url, "model_versions", model="tiny", state=state)


def overwrite(models: Path) -> None:
    for path in models.rglob("*.onnx"):
        path.write_bytes(b"garbage")


TROUBLES: dict[str, Callable[[Path], object]] = {
    "away": lambda models: models.rename(models.with_name("elsewhere")),
    "overwritten": overwrite,
    "unreadable": lambda models: models.chmod(0),
}


def served(server: Server) -> set[tuple[tuple[str, str], ...]]:
    found = series(server.url)
    name = "logitserve_model_info"
    return {tuple(sorted(labels)) for (each, labels), count in found.items() if each == name}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_replaced_worker_answers_what_the_others_answer(
    models: Path, trouble: str, workers: int
) -> None:
    wrapper = () if os.getuid() else WITHOUT_OVERRIDE
    options = ("--models", str(models), "--workers", str(workers))
    with running(*options, wrapper=wrapper) as server:
        wait_until(lambda: value(server.url, "workers") == workers)
        before = served(server)
        assert len(before) == 2
        TROUBLES[trouble](models)
        for killed in range(workers):
            workers_of(server)[0].kill()
            wait_until(lambda killed=killed: exits(server) == {"signal": killed + 1})  # type: ignore[misc]
            wait_until(lambda: value(server.url, "workers") == workers)
            assert_serves(server)
            assert served(server) == before
        assert server.stop() == 0
    if models.exists():
        models.chmod(0o755)
    assert "Traceback" not in "".join(server.log)


def exits(server: Server) -> dict[str, float]:
    kinds = ("oom", "hung", "signal", "exit")
    found = {kind: value(server.url, "worker_exits_total", reason=kind) for kind in kinds}
    return {kind: count for kind, count in found.items() if count}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_too_large(models: Path, workers: int) -> None:
    options = ("--models", str(models), "--workers", str(workers))
    path = models / "tiny/2/model.onnx"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(LARGE)
    with running(*options) as server:
        wait_until(lambda: value(server.url, "workers") == workers)
        assert versions(server, "refused") == 1
        for is_replaced in (False, True):
            if is_replaced:
                workers_of(server)[0].kill()
                wait_until(lambda: exits(server) == {"signal": 1})
                wait_until(lambda: value(server.url, "workers") == workers)
            assert_serves(server)
            wait_until(lambda: total(server.url, "model_load_failures_total") == 1)
            for process in workers_of(server):
                assert process.memory_info().rss < 2**28
            (line,) = [line for line in server.log if "is refused" in line]
            assert f"the file has {LARGE} bytes, more than the limit of" in line
            assert "LOGITSERVE_MAX_MODEL_BYTES" in line


def test_the_limit_of_a_file_can_be_set(models: Path) -> None:
    size = max(path.stat().st_size for path in models.rglob("*.onnx"))
    tiny_models.publish(models, version="2", description="long " * 1000)
    with running("--models", str(models), "--max-model-bytes", str(size)) as server:
        assert_serves(server)
        assert any(f"more than the limit of {size} (setting" in line for line in server.log)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_version_that_ends_its_worker_is_refused(models: Path, workers: int) -> None:
    """As one that takes more memory than there is; its load is long enough to kill the worker."""
    options = ("--models", str(models), "--workers", str(workers))
    with running(*options) as server:
        wait_until(lambda: value(server.url, "workers") == workers)
        incoming = models.with_name("incoming")
        tiny_models.publish(incoming, version="2")
        tiny_models.make_slow(incoming / "tiny/2/model.onnx", tiny_models.ENDLESS)
        (incoming / "tiny/2").rename(models / "tiny/2")
        wait_until(lambda: versions(server, "loading") == 1)
        for killed in range(workers):
            assert_serves(server)  # while it is loaded, and when it has ended one
            workers_of(server)[0].kill()
            wait_until(lambda killed=killed: exits(server) == {"signal": killed + 1})  # type: ignore[misc]
            wait_until(lambda: value(server.url, "workers") == workers)
        wait_until(lambda: versions(server, "refused") == 1)
        assert versions(server, "loading") == 0
        assert_serves(server)
        assert "it ended the process that loaded it (SIGKILL)" in "".join(server.log)


def test_what_a_worker_was_answering_is_counted_as_lost(models: Path) -> None:
    begin = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234"
    lost = {"route": "other", "model": "", "version": "", "status": "lost"}
    with running("--models", str(models)) as server, ExitStack() as stack:
        assert ("logitserve_requests_total", frozenset(lost.items())) in series(server.url)
        for _ in range(3):
            stack.enter_context(connect(server)).sendall(begin)
        # With the request for the metrics.
        wait_until(lambda: value(server.url, "requests_in_progress") == 4)
        for killed in (1, 2):
            workers_of(server)[0].kill()
            wait_until(lambda killed=killed: exits(server) == {"signal": killed})  # type: ignore[misc]
            wait_until(lambda: value(server.url, "requests_in_progress") == 1)
            assert value(server.url, "requests_total", **lost) == 3
        assert any("3 requests are lost" in line for line in server.log)


def test_the_kernel_ends_a_worker_rather_than_the_supervisor(models: Path) -> None:
    with running("--models", str(models)) as server:
        of = [server.process.pid, *(worker.pid for worker in workers_of(server))]
        supervisor, worker = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in of)
        assert supervisor < worker <= 1000


def test_a_worker_that_hangs_is_replaced(models: Path) -> None:
    options = ("--models", str(models), "--workers", "2", "--worker-timeout-seconds", "2")
    with running(*options) as server:
        hung, _ = workers_of(server)
        hung.send_signal(signal.SIGSTOP)
        wait_until(lambda: not hung.is_running())
        wait_until(lambda: len(workers_of(server)) == 2)
        assert_serves(server)
        assert exits(server) == {"hung": 1}
        (line,) = [line for line in server.log if "has exited" in line]
        assert "no heartbeat for 2 seconds" in line
