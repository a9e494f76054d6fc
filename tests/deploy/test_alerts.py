"""Each alert fires for its cause, stays as long as that does, and ends with it.

`tests/deploy/drills.py` says how; `test_alerts_of_models.py` has those of drift, quality and store.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests import tiny_models
from tests.deploy.drills import (
    LONGEST_RANGE,
    SPEED,
    Bench,
    Cause,
    assert_ends,
    assert_fires,
    repeated,
)
from tests.deploy.free_ports import free_ports
from tests.deploy.scraping import scraping
from tests.deploy.waiting import wait_until
from tests.e2e.process import running
from tests.e2e.sockets import connect, read_all
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
SEVEN = (ROOT / "docs/seven.png").read_bytes()
MAX_QUEUE = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Prometheus starts before there is a service: Down fires, and ends."""
    folder = tmp_path_factory.mktemp("alerts")
    tiny_models.publish(folder / "models", name="tiny")
    (port,) = free_ports(1)
    options = ("--models", str(folder / "models"), "--port", str(port), "--workers", "2")
    limits = ("--max-queue", str(MAX_QUEUE))
    target = f"127.0.0.1:{port}"
    with scraping(target, folder / "p", interval="500ms", speed=SPEED) as prometheus:
        down = 'ALERTS{alertname="LogitserveDown",alertstate="firing"}'
        wait_until(lambda: prometheus.values(down), what="Down fires")
        with running(*options, *limits) as server:
            wait_until(lambda: not prometheus.values(down), what="Down ends")
            yield Bench(server, folder / "models", prometheus)


def miss_the_deadline(bench: Bench) -> None:
    """A body that does not come in time: 504 after 0.3 s."""
    head = "POST /models/tiny/predict HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 300\r\n"
    with connect(bench.server) as connection:
        connection.sendall(f"{head}Content-Type: image/png\r\nContent-Length: 9\r\n\r\n".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 504 ")


def fill_the_queue(bench: Bench) -> None:
    assert bench.ask(MAX_QUEUE + 1) == 429


@pytest.mark.parametrize(
    ("alert", "cause"),
    [
        ("LogitserveErrors", miss_the_deadline),
        ("LogitserveErrorBudget", miss_the_deadline),
        ("LogitserveSlow", miss_the_deadline),
        ("LogitserveTurnsAway", fill_the_queue),
    ],
)
def test_requests_that_fail(bench: Bench, alert: str, cause: Cause) -> None:
    with repeated(cause, bench):
        assert_fires(bench, alert, 3)
    assert_ends(bench, alert)


def test_a_version_that_is_refused(bench: Bench) -> None:
    version = bench.models / "tiny/2"
    version.mkdir()
    (version / "model.onnx").write_bytes(b"garbage")
    assert_fires(bench, "LogitserveModelRefused", LONGEST_RANGE)
    assert bench.ask() == 200
    (version / "model.onnx").unlink()
    version.rmdir()
    assert_ends(bench, "LogitserveModelRefused")


def test_models_that_are_gone(bench: Bench) -> None:
    away = bench.models.with_name("away")
    (bench.models / "tiny").rename(away)
    assert_fires(bench, "LogitserveNotReady", 3)
    away.rename(bench.models / "tiny")
    assert_ends(bench, "LogitserveNotReady")


def test_workers_that_are_killed(bench: Bench) -> None:
    for worker in bench.workers():
        worker.kill()
    assert_fires(bench, "LogitserveWorkers", 3)
    assert_ends(bench, "LogitserveWorkers")
    assert httpx.get(f"{bench.server.url}/readyz").status_code == 200


def test_an_event_loop_that_stands_still(bench: Bench) -> None:
    lag = "sum(logitserve_event_loop_lag_seconds_count)"
    wait_until(lambda: bench.prometheus.values(lag), what="a scrape")
    (counted,) = bench.prometheus.values(lag)
    worker = bench.workers()[0]
    worker.suspend()
    try:
        # Two workers count 20 a second, and may have since a scrape of a second ago. Then the
        # neighbor alone counts 10 a second, or fewer where it is slow.
        wait_until(
            lambda: sum(bench.prometheus.values(lag)) > counted + 40, what="two seconds pass"
        )
    finally:
        worker.resume()
    assert_fires(bench, "LogitserveEventLoop", 3)
    assert_ends(bench, "LogitserveEventLoop")


def test_nobody_asks(bench: Bench) -> None:
    assert bench.ask() == 200
    assert_fires(bench, "LogitserveNoTraffic", 3)

    def asked() -> bool:
        assert bench.ask() == 200
        return not bench.firing("LogitserveNoTraffic")

    wait_until(asked, what="NoTraffic ends", seconds=60)


class Beside:
    """A fast and a slow model with little memory, and commands that run in the same cgroup."""

    def __init__(self, bench: Bench, wrapper: Sequence[str]) -> None:
        self.bench, self.wrapper = bench, wrapper


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """`digits-mlp` is sent a seven all the time, which it knows."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("own-models")
    models = folder / "models"
    shutil.copytree(ROOT / "models/digits-mlp", models / "digits-mlp")
    tiny_models.publish(models, name="slow")
    tiny_models.make_slow(models / "slow/1/model.onnx", 2**17)
    options = ("--models", str(models), "--port", str(port), "--workers", "1")
    with (
        memory_cgroup(2**30) as wrapper,
        running(*options, wrapper=wrapper) as server,
        scraping(f"127.0.0.1:{port}", folder / "p", interval="500ms", speed=SPEED) as prometheus,
    ):
        bench = Bench(server, models, prometheus)
        with repeated(posting("digits-mlp", SEVEN), bench, threads=1):
            yield Beside(bench, wrapper)


@contextmanager
def memory_cgroup(most: int) -> Iterator[Sequence[str]]:
    """What runs a command in a cgroup with so many bytes (version 1, or 2)."""
    root = Path("/sys/fs/cgroup")
    is_first = (root / "memory").is_dir()
    folder = root / ("memory" if is_first else "") / f"logitserve-{os.getpid()}"
    try:
        folder.mkdir()
        limit = "memory.limit_in_bytes" if is_first else "memory.max"
        (folder / limit).write_text(str(most))
    except OSError as error:
        pytest.skip(f"no cgroup with a limit of memory can be made here: {error}")
    processes = folder / "cgroup.procs"
    try:
        yield "sh", "-c", f'echo $$ > {processes} && exec "$@"', "sh"
    finally:
        wait_until(lambda: not processes.read_text(), what="the cgroup is empty")
        folder.rmdir()


def posting(model: str, image: bytes, images: int = 1) -> Cause:
    def post(bench: Bench) -> None:
        url = f"{bench.server.url}/models/{model}/predict"
        answer = httpx.post(url, files=[("file", image)] * images, timeout=60)
        assert answer.status_code == 200, answer.text

    return post


def test_more_images_come_than_are_answered(small: Beside) -> None:
    """1,536 images at once, of which a run takes 64: it needs 50 ms, however fast the client is."""
    with repeated(posting("slow", png(random_picture(0)), 64), small.bench, threads=24):
        assert_fires(small.bench, "LogitserveQueue", 3)
    assert_ends(small.bench, "LogitserveQueue")


def test_a_neighbor_takes_the_memory(small: Beside) -> None:
    prometheus = small.bench.prometheus
    wait_until(lambda: prometheus.values("logitserve_memory_available_bytes"), what="a scrape")
    (limit,) = prometheus.values("logitserve_memory_limit_bytes")
    (available,) = prometheus.values("logitserve_memory_available_bytes")
    assert limit == 2**30
    size = int(available - 0.05 * limit)
    code = f"taken = bytearray(b'x') * {size}; input()"
    command = [*small.wrapper, sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as neighbor:
        assert_fires(small.bench, "LogitserveMemory", 3)
        neighbor.communicate(b"\n")
    assert neighbor.returncode == 0
    assert_ends(small.bench, "LogitserveMemory")


def test_images_that_the_model_does_not_know(small: Beside) -> None:
    """After what was an hour of sevens."""
    history = "count_over_time(logitserve:unknown:ratio_rate30m[70s] offset 60s)"
    wait_until(lambda: small.bench.prometheus.values(history), what="an hour", seconds=120)
    checks = np.kron(np.indices((7, 7)).sum(0) % 2, np.full((8, 8), 255)).astype(np.uint8)
    with repeated(posting("digits-mlp", png(checks)), small.bench, threads=1):
        assert_fires(small.bench, "LogitserveUnknown", 3)
    assert_ends(small.bench, "LogitserveUnknown")
