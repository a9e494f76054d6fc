"""Debian's Prometheus with the configuration and rules of the repository."""

import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.free_ports import free_ports
from tests.deploy.waiting import answers, wait_until

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
KEY = "a-key-for-prometheus"
_DURATION = re.compile(r"(?<=[\[ ])(\d+)([mh])\b")
_MILLISECONDS = {"m": 60_000, "h": 3_600_000}


class Prometheus:
    """A running one."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, query: str) -> list[float]:
        """The numbers that a query gives now, without those that are none."""
        found = self.get("/api/v1/query", query=query)["result"]
        numbers = [float(series["value"][1]) for series in found]
        return [number for number in numbers if not math.isnan(number)]


@contextmanager
def scraping(
    target: str, folder: Path, *, interval: str = "1s", speed: int = 1
) -> Iterator[Prometheus]:
    """Prometheus as it stands in the repository, but quicker, and of another target.

    Args:
        target: host and port.
        folder: for its files.
        interval: between scrapes, and between evaluations.
        speed: by which each duration of the rules is divided, ranges and `for`; the rest stays.
    """
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    for name in ("rules.yml", "alerts.yml"):
        rules = _DURATION.sub(
            lambda found: f"{int(found[1]) * _MILLISECONDS[found[2]] // speed}ms",
            (FOLDER / name).read_text(),
        )
        (folder / name).write_text(rules)
    (folder / "api-key").write_text(KEY)
    configuration = (FOLDER / "prometheus.yml").read_text()
    for before, after in {
        "service:8000": target,
        "_interval: 15s": f"_interval: {interval}",
    }.items():
        assert before in configuration
        configuration = configuration.replace(before, after)
    (folder / "prometheus.yml").write_text(configuration)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "error",
    }
    process = subprocess.Popen(["prometheus", *(f"--{k}={v}" for k, v in options.items())])
    try:
        wait_until(lambda: answers(f"{url}/-/ready"), what="Prometheus is ready")
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)
