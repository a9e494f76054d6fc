"""Samples of a worker, as gauges."""

import time
from dataclasses import replace

from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import Row
from logitserve_service.telemetry.worker_gauges import LAG_SECONDS, Sample, WorkerGauges
from tests.service.telemetry.conftest import Read

SERVED = frozenset({("tiny", "1", "a" * 64)})
STATE = Sample(
    connections=3,
    ready=True,
    memory_available=2**28,
    queues={"tiny": 5},
    served=SERVED,
    versions={("tiny", "ready"): 1, ("bad", "refused"): 2},
)


def test_gauges_follow_the_samples(metrics: Metrics, read: Read) -> None:
    state = STATE
    gauges = WorkerGauges(metrics, lambda: state, memory_limit=2**30)
    assert (read("connections"), read("ready"), read("workers")) == (3, 1, 1)
    assert read("resident_bytes") > 2**20
    assert read("queue_pictures", model="tiny") == 5
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 1
    assert read("model_versions", model="bad", state="refused") == 2
    assert read("memory_limit_bytes") == 2**30
    assert read("memory_available_bytes") == 2**28

    newer = frozenset({("tiny", "2", "b" * 64)})
    state = replace(STATE, queues={}, served=newer, versions={})
    gauges.sample()
    assert read("queue_pictures", model="tiny") == 0
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 0
    assert read("model_info", model="tiny", version="2", sha256="b" * 64) == 1
    assert read("model_versions", model="bad", state="refused") == 0


def test_ready_is_every_worker(metrics: Metrics, read: Read, rows: list[Row]) -> None:
    WorkerGauges(metrics, lambda: STATE, memory_limit=2**30)
    other = Metrics(rows, 1)
    WorkerGauges(
        other, lambda: replace(STATE, ready=False, memory_available=2**27), memory_limit=2**30
    )
    assert (read("ready"), read("connections"), read("workers")) == (0, 6, 2)
    assert read("memory_available_bytes") == 2**27
    assert read("model_info", model="tiny", version="1", sha256="a" * 64) == 1
    other.row.drop()
    assert (read("ready"), read("connections"), read("workers")) == (1, 3, 1)


def test_the_lag_of_the_event_loop(metrics: Metrics, read: Read) -> None:
    gauges = WorkerGauges(metrics, lambda: STATE, memory_limit=2**30)
    gauges.tick()
    assert read("event_loop_lag_seconds_count") == 0
    gauges.tick()  # early
    time.sleep(3 * LAG_SECONDS)
    gauges.tick()
    assert read("event_loop_lag_seconds_count") == 2
    assert read("event_loop_lag_seconds_sum") >= 2 * LAG_SECONDS
    assert read("event_loop_lag_seconds_bucket", le="0.1") == 1
