"""Gauges of this worker, and the lag of its event loop."""

import math
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from logitserve_service.telemetry import families
from logitserve_service.telemetry.metrics import Metrics

SAMPLE_SECONDS = 1  # maximum age of the gauges of other workers
LAG_SECONDS = 0.1
_STATM = Path("/proc/self/statm")
_FILES = "/proc/self/fd"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of a worker."""

    connections: int
    ready: bool
    memory_available: int  # bytes
    queues: Mapping[str, int]  # queued images by model
    served: AbstractSet[tuple[str, str, str]]  # name, version and SHA-256 of each loaded model
    versions: Mapping[tuple[str, str], int]  # number of versions by model and state


class WorkerGauges:
    """Sets the gauges; call `sample` every SAMPLE_SECONDS and before each scrape."""

    def __init__(
        self, metrics: Metrics, sample: Callable[[], Sample], *, memory_limit: int
    ) -> None:
        self._metrics = metrics
        self._sample = sample
        self._last = Sample(0, False, 0, {}, frozenset(), {})  # noqa: FBT003
        self._lag = metrics.histogram(families.LOOP_LAG)
        self._ticked = 0.0
        metrics.set(families.WORKERS, 1)
        metrics.set(families.MEMORY_LIMIT, memory_limit)
        metrics.set(families.STARTED, time.time())
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        metrics.set(families.MAX_FILES, math.inf if files == resource.RLIM_INFINITY else files)
        build = [version(name) for name in ("logitserve", "onnxruntime")]
        metrics.set(families.BUILD_INFO, 1, build[0], platform.python_version(), build[1])
        self._cpu_seconds = 0.0
        self.sample()

    def sample(self) -> None:
        """Update the gauges."""
        metrics, last, now = self._metrics, self._last, self._sample()
        metrics.set(families.RESIDENT_BYTES, int(_STATM.read_text().split()[1]) * _PAGE_BYTES)
        metrics.set(families.MEMORY_AVAILABLE, now.memory_available)
        metrics.set(families.OPEN_FILES, len(os.listdir(_FILES)))  # noqa: PTH208 - it is quicker
        cpu_seconds = time.process_time()
        metrics.add(families.CPU_SECONDS, cpu_seconds - self._cpu_seconds)
        self._cpu_seconds = cpu_seconds
        metrics.set(families.READY, now.ready)
        metrics.set(families.CONNECTIONS, now.connections)
        for name in last.queues.keys() | now.queues.keys():
            metrics.set(families.QUEUE, now.queues.get(name, 0), name)
        for series in last.versions.keys() | now.versions.keys():
            metrics.set(families.MODEL_VERSIONS, now.versions.get(series, 0), *series)
        for served in last.served ^ now.served:
            metrics.set(families.MODEL_INFO, served in now.served, *served)
        self._last = now
        metrics.row.beat()

    def tick(self) -> None:
        """Record how late this call is; call it every LAG_SECONDS from the event loop."""
        now = time.monotonic()
        if self._ticked:
            self._lag.observe(max(0.0, now - self._ticked - LAG_SECONDS))
        self._ticked = now
