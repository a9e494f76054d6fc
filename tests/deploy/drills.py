"""A real Prometheus that asks a real service while something breaks.

Each duration of the shipped rules is divided by 60, so that `for: 2m` is two seconds and `[10m]`
ten; thresholds and floors stay.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import httpx
import psutil

from tests import background
from tests.deploy.scraping import Prometheus
from tests.deploy.waiting import wait_until
from tests.e2e.process import Server
from tests.tiny_models import png, random_picture

SPEED = 60
LONGEST_RANGE = 12
"""Seconds: more than that of an alert, which is 10 minutes."""


class Bench:
    """A service, its folder of models, and the Prometheus that asks it."""

    def __init__(self, server: Server, models: Path, prometheus: Prometheus) -> None:
        self.server, self.models, self.prometheus = server, models, prometheus

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.server.process.pid).children()

    def firing(self, alert: str, seconds: int = 1) -> bool:
        """Whether it has fired without a pause, for so many seconds."""
        query = f'count_over_time(ALERTS{{alertname="{alert}",alertstate="firing"}}[{seconds}s])'
        return max(self.prometheus.values(query), default=0) >= 2 * seconds - 1

    def metric(self, name: str) -> float:
        (value,) = self.prometheus.values(f"logitserve_{name}")
        return value

    def ask(self, images: int = 1) -> int:
        files = [("file", png(random_picture(seed))) for seed in range(images)]
        url = f"{self.server.url}/models/tiny/predict"
        return httpx.post(url, files=files, timeout=20).status_code


Cause = Callable[[Bench], object]


def repeated(cause: Cause, bench: Bench, *, threads: int = 4) -> AbstractContextManager[None]:
    """What causes an alert again and again, until the block ends."""
    return background.repeated(partial(cause, bench), threads=threads)


def assert_fires(bench: Bench, alert: str, seconds: int) -> None:
    wait_until(lambda: bench.firing(alert, seconds), what=f"{alert} fires", seconds=60)


def assert_ends(bench: Bench, alert: str) -> None:
    firing = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    wait_until(lambda: not bench.prometheus.values(firing), what=f"{alert} ends", seconds=60)
