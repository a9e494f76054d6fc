"""Gauges of this worker."""

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from logitserve_service.telemetry import metrics as families
from logitserve_service.telemetry.metrics import Metrics

SAMPLE_SECONDS = 1  # maximum age of the gauges of other workers
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of a worker."""

    connections: int
    ready: bool
    queues: Mapping[str, int]  # images that wait, by model
    served: AbstractSet[tuple[str, str, str]]  # name, version and SHA-256 of what is loaded
    load_failures: Mapping[str, int]  # versions that this worker has refused, by model


class WorkerGauges:
    """Writes samples into metrics: call `sample` every SAMPLE_SECONDS and before each scrape."""

    def __init__(self, metrics: Metrics, sample: Callable[[], Sample]) -> None:
        self._metrics = metrics
        self._sample = sample
        self._last = Sample(0, ready=False, queues={}, served=frozenset(), load_failures={})
        self.sample()

    def sample(self) -> None:
        """Update the gauges."""
        metrics, last, now = self._metrics, self._last, self._sample()
        metrics.set(families.RESIDENT_BYTES, int(_STATM.read_text().split()[1]) * _PAGE_BYTES)
        metrics.set(families.READY, now.ready)
        metrics.set(families.CONNECTIONS, now.connections)
        for name in last.queues.keys() | now.queues.keys():
            metrics.set(families.QUEUE, now.queues.get(name, 0), name)
        for name, count in now.load_failures.items():
            # Added, not set: a predecessor in this slot has counted there too.
            metrics.add(families.LOAD_FAILURES, count - last.load_failures.get(name, 0), name)
        for series in last.served ^ now.served:
            metrics.set(families.MODEL_INFO, series in now.served, *series)
        self._last = now
