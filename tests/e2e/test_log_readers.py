"""Whoever should read the log hangs: requests are answered all the same."""

import subprocess

import httpx
import pytest

from tests.deploy.free_ports import free_ports
from tests.e2e.metrics import value, wait_until
from tests.e2e.process import clean_environment, command
from tests.e2e.profiles import ROOT
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill
REQUESTS = 1500
"""Their lines are more than a pipe holds."""


def test_a_reader_that_hangs_stops_no_answer() -> None:
    (port,) = free_ports(1)
    options = ("--models", str(ROOT / "models"), "--port", str(port), "--access-log", "true")
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command("serve", *options),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:

        def is_ready() -> bool:
            try:
                return httpx.get(f"{url}/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(is_ready)
        with httpx.Client(base_url=url, timeout=20) as client:
            for _ in range(REQUESTS):
                answer = client.post("/predict", content=png(random_picture(0)))
                assert answer.status_code == 200
        assert value(url, "access_log_lost_lines_total") > 0
        process.terminate()
        assert process.wait(20) == 0
