import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import Row, shared_rows

Read = Callable[..., float]


@pytest.fixture
def rows() -> list[Row]:
    """Of two workers."""
    return shared_rows(2)


@pytest.fixture
def metrics(rows: list[Row]) -> Metrics:
    """Of the first worker."""
    return Metrics(rows)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the exposition by its name and labels."""
    text = metrics.exposition("")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def read(metrics: Metrics) -> Read:
    """One sample; 0 where it is missing."""

    def read(name: str, **labels: str) -> float:
        return samples(metrics).get((f"logitserve_{name}", frozenset(labels.items())), 0)

    return read


def exchange(**fields: Any) -> Exchange:
    return Exchange(
        **{
            "method": "POST",
            "path": b"/models/tiny/predict",
            "client": "127.0.0.1",
            "identity": (b"id-1", None),
            "begun": time.perf_counter() - 0.004,
            "route": "/models/{name}/predict",
            "model": "tiny",
            "version": "3",
            "status": 200,
            "size": 312,
            **fields,
        }
    )
