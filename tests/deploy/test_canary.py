"""The query of docs/rollout.md that ends a canary, by a real Prometheus and a real service."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import tiny_models
from tests.deploy.drills import SPEED, Bench, repeated
from tests.deploy.free_ports import free_ports
from tests.deploy.scraping import scraping
from tests.deploy.waiting import wait_until
from tests.e2e.process import running
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

DOCUMENT = (Path(__file__).parents[2] / "docs/rollout.md").read_text()
(WORSE,) = re.findall(r'promtool query instant "\$PROMETHEUS" "(.*?)"\)', DOCUMENT, re.DOTALL)
SLOW = "2"
ERRORS, LATENCY = WORSE.split(" or\n")
OF_ITSELF = WORSE.replace("version='2'", "version='1'")
"""Version 1 against itself: two fast versions differ by chance, as few are asked here."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Version 2 takes about 50 ms."""
    folder = tmp_path_factory.mktemp("canary")
    models = folder / "models"
    for version in ("1", SLOW):
        tiny_models.publish(models, name="digits", version=version)
    tiny_models.make_slow(models / f"digits/{SLOW}/model.onnx", 2**17)
    (port,) = free_ports(1)
    options = ("--models", str(models), "--port", str(port), "--version-policy", "all")
    with (
        running(*options) as server,
        scraping(f"127.0.0.1:{port}", folder / "p", interval="500ms", speed=SPEED) as prometheus,
    ):
        yield Bench(server, models, prometheus)


def ask(bench: Bench, version: str, milliseconds: int) -> int:
    url = f"{bench.server.url}/models/digits/versions/{version}/predict"
    headers = {"Content-Type": "image/png", "X-Request-Timeout-Ms": str(milliseconds)}
    image = png(random_picture(int(version)))
    return httpx.post(url, content=image, headers=headers, timeout=20).status_code


def rates(bench: Bench, metric: str, version: str) -> list[float]:
    return bench.prometheus.values(f"logitserve:version_{metric}{{version='{version}'}}")


def ask_each(bench: Bench) -> None:
    for version in ("1", SLOW):
        assert ask(bench, version, 10_000) == 200


def test_a_canary_ends_that_is_slower(bench: Bench) -> None:
    assert WORSE.count(f"version='{SLOW}'") == 2
    with repeated(ask_each, bench, threads=1):
        wait_until(lambda: bench.prometheus.values(LATENCY), what="the slow version is found")
        assert bench.prometheus.values(WORSE) != []
        assert bench.prometheus.values(ERRORS) == []
        assert rates(bench, "errors:ratio_rate1h", SLOW) == [0]
        assert rates(bench, "seconds:p99_1h", "1") != []
        assert bench.prometheus.values(OF_ITSELF) == []


def test_errors_are_of_the_version_that_fails(bench: Bench) -> None:
    def time_out(bench: Bench) -> None:
        assert ask(bench, "1", 10_000) == 200
        assert ask(bench, SLOW, 20) == 504

    with repeated(time_out, bench, threads=1):
        wait_until(lambda: bench.prometheus.values(ERRORS), what="the errors are found")
        assert bench.prometheus.values(WORSE) != []
        assert rates(bench, "errors:ratio_rate1h", "1") == [0]
        assert bench.prometheus.values(OF_ITSELF) == []
