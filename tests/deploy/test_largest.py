"""Sixteen of the largest permitted requests at once, in containers with little memory."""

import functools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.deploy.conftest import Image
from tests.deploy.engine import inspected
from tests.deploy.largest import requests
from tests.deploy.test_small_containers import running
from tests.e2e.metrics import value
from tests.forms import FORMS
from tests.hunt.clients import Case, send

AT_ONCE = 16
GRPC_PORT = 8001
ANSWERED = {"200", "OK"}
LATER = {"429", "RESOURCE_EXHAUSTED"}
TOO_MANY_PIXELS = {"413", "INVALID_ARGUMENT"}
"""Of images, where the memory is too small for a single one of so many pixels."""


@pytest.mark.parametrize(("memory", "workers"), [("256m", 1), ("1g", 2)])
def test_none_is_lost(image: Image, memory: str, workers: int) -> None:
    options = (f"--env=LOGITSERVE_GRPC_PORT={GRPC_PORT}",)
    with (
        running(image, None, memory, workers, *options) as service,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        host = str(urlsplit(service.url).hostname)
        addresses = {"http": (host, 8000), "grpc": (host, GRPC_PORT)}
        answered = set()
        for case in requests():
            statuses = Counter(pool.map(functools.partial(status, case, addresses), range(AT_ONCE)))
            permitted = ANSWERED | LATER | (TOO_MANY_PIXELS if case.decodes else set())
            assert set(statuses) <= permitted, (case.name, statuses)
            if set(statuses) & ANSWERED:
                answered.add(case.name.partition(":")[0])
            assert httpx.get(f"{service.url}/readyz").status_code == 200, case.name
        assert answered >= {str(form) for form in FORMS if workers > 1 or not form.files}
        for reason in ("oom", "hung", "signal", "exit"):
            assert value(service.url, "worker_exits_total", reason=reason) == 0
        state = inspected(service.name)
        assert (state["RestartCount"], state["State"]["OOMKilled"]) == (0, False)


def status(case: Case, addresses: dict[str, tuple[str, int]], _: int) -> str:
    outcome = send(case, addresses)
    if outcome.connection is not None:
        outcome.connection.close()
    return ", ".join(outcome.statuses) or "none"
