"""How this worker is, looked at once a second and when somebody asks: gauges of `metrics.py`."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from pathlib import Path

from logitserve_service.execution.batcher import Batcher
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.readiness import Readiness
from logitserve_service.telemetry.metrics import (
    CONNECTIONS,
    MODEL_INFO,
    QUEUE,
    READY,
    RESIDENT_BYTES,
    Metrics,
    Value,
)

SAMPLE_SECONDS = 1
"""What other workers say of this one is at most so old."""

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Vitals:
    """The gauges of a worker."""

    def __init__(
        self, metrics: Metrics, catalog: Catalog, readiness: Readiness, connections: Sized
    ) -> None:
        self._metrics = metrics
        self._catalog = catalog
        self._readiness = readiness
        self._connections = connections
        self._connected = metrics.value(CONNECTIONS)
        self._resident = metrics.value(RESIDENT_BYTES)
        self._ready = metrics.value(READY)
        self._failures: Counter[str] = Counter()
        self._queues: dict[str, Value] = {}
        self._served: dict[Batcher, Value] = {}
        self.sample()

    def sample(self) -> None:
        """Look."""
        self._resident.set(int(_STATM.read_text().split()[1]) * _PAGE_BYTES)
        self._ready.set(self._readiness.ready)
        self._connected.set(len(self._connections))
        loaded = {name: list(versions.values()) for name, versions in self._catalog.models.items()}
        for name in loaded.keys() - self._queues.keys():
            self._queues[name] = self._metrics.value(QUEUE, name)
        for name, queue in self._queues.items():
            queue.set(sum(model.waiting for model in loaded.get(name, ())))
        # A copy: the thread that loads models adds to it.
        for name, count in self._catalog.loader.failures.copy().items():
            # Added, not set: whoever had this worker's files before has counted there too.
            self._metrics.load_failed(name, count - self._failures[name])
            self._failures[name] = count
        self._sample_served([model for models in loaded.values() for model in models])

    def _sample_served(self, models: list[Batcher]) -> None:
        for model in set(self._served) - set(models):
            self._served.pop(model).set(0)
        for model in set(models) - set(self._served):
            card = model.card
            value = self._metrics.value(MODEL_INFO, card.name, card.version, model.model.sha256)
            value.set(1)
            self._served[model] = value

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look once a second, as long as the context lasts."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()

    async def _look(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)
