"""What a server says under /metrics, read by prometheus_client's own parser."""

import ssl
import time
from collections.abc import Callable, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 20
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: that httpx makes its own costs more than a request."""

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(url: str, headers: Mapping[str, str] | None = None) -> Series:
    """Every sample by its name and labels."""
    response = httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS, headers=headers, verify=NO_TLS)
    assert response.status_code == 200
    found: Series = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(url: str, name: str, **labels: str) -> float:
    """One sample; 0 where it is not there."""
    return series(url).get((f"logitserve_{name}", frozenset(labels.items())), 0)


def total(url: str, name: str, *, headers: Mapping[str, str] | None = None, **labels: str) -> float:
    """The sum of the samples that have at least these labels."""
    wanted = set(labels.items())
    return sum(
        value
        for (found, others), value in series(url, headers).items()
        if found == f"logitserve_{name}" and wanted <= others
    )


def wait_until(holds: Callable[[], bool], missing: Callable[[], str] = str) -> None:
    """Wait for a state; `missing` is what an error says of it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to hold: {missing()}"
        time.sleep(0.02)


def preprocessed(url: str) -> float:
    """How many times something was decoded or made to fit a network."""
    return sum(
        value
        for (name, _), value in series(url).items()
        if name.endswith("_seconds_count") and ("decode" in name or "preprocessing" in name)
    )
