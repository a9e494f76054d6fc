"""Samples of a worker, as gauges."""

from dataclasses import replace
from pathlib import Path

from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.worker_gauges import Sample, WorkerGauges
from tests.service.telemetry.conftest import Read

SERVED = frozenset({("tiny", "1", "a" * 64)})
STATE = Sample(
    connections=3, ready=True, queues={"tiny": 5}, served=SERVED, load_failures={"bad": 2}
)


def test_gauges_follow_the_samples(metrics: Metrics, read: Read) -> None:
    state = STATE
    gauges = WorkerGauges(metrics, lambda: state)
    assert (read("connections"), read("ready"), read("workers")) == (3, 1, 1)
    assert read("resident_bytes") > 2**20
    assert read("queue_pictures", model="tiny") == 5
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 1
    assert read("model_load_failures_total", model="bad") == 2

    newer = frozenset({("tiny", "2", "b" * 64)})
    state = replace(STATE, queues={}, served=newer, load_failures={"bad": 3})
    gauges.sample()
    assert read("queue_pictures", model="tiny") == 0
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 0
    assert read("model_info", model="tiny", version="2", sha256="b" * 64) == 1
    assert read("model_load_failures_total", model="bad") == 3


def test_ready_is_every_worker(metrics: Metrics, read: Read, tmp_path: Path) -> None:
    WorkerGauges(metrics, lambda: STATE)
    other = Metrics(tmp_path)
    WorkerGauges(other, lambda: replace(STATE, ready=False))
    assert (read("ready"), read("connections"), read("workers")) == (0, 6, 2)
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 1
    assert read("model_load_failures_total", model="bad") == 4
    other.close()
    assert (read("ready"), read("connections"), read("workers")) == (1, 3, 1)
    assert read("model_load_failures_total", model="bad") == 4
