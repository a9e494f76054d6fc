"""Maintenance of the store: count rows, delete old ones and measure quality."""

import time

from logitserve_service.config.settings import Settings
from logitserve_service.monitoring.estimates import F1
from logitserve_service.monitoring.quality import SHARE, measure
from logitserve_service.monitoring.store import Store
from logitserve_service.monitoring.store_writer import KEPT, OUTCOMES, StoreWriter
from logitserve_service.telemetry import families
from logitserve_service.telemetry.metrics import Metrics

QUALITY_DAYS = 7
"""Period of the quality metrics in days."""


def store_writer_of(settings: Settings, store: Store, metrics: Metrics, number: int) -> StoreWriter:
    """Return a worker's store writer; the first one also deletes old rows and measures quality."""

    def count(outcome: str, rows: int) -> None:
        if outcome == KEPT:
            metrics.add(families.STORE_ROWS, rows)
        else:
            metrics.add(families.STORE_DROPPED, rows, outcome)

    due = 0.0

    def upkeep() -> None:
        nonlocal due
        store.forget(settings.store_days, settings.store_max_bytes)
        metrics.set(families.STORE_BYTES, store.size)
        if (begun := time.monotonic()) >= due:
            _show_quality(store, metrics)
            due = time.monotonic() + 100 * (time.monotonic() - begun)  # at most 1 % of the time

    for outcome in OUTCOMES:  # the counter must exist before its first increase
        count(outcome, 0)
    first = upkeep if number == 0 else None
    return StoreWriter(store, count, pictures=settings.keep_pictures, upkeep=first)


def _show_quality(store: Store, metrics: Metrics) -> None:
    for card in store.models().values():
        found = measure(store, card, QUALITY_DAYS)
        for name, of in found.measures.items():
            if name.startswith(F1) or of.weighted is None:  # a series per label would be too many
                continue
            labels = found.model, found.version, name
            metrics.set(families.QUALITY, of.weighted.value, *labels)
            metrics.set(families.QUALITY_LOW, of.weighted.low, *labels)
            metrics.set(families.QUALITY_HIGH, of.weighted.high, *labels)
            metrics.set(families.QUALITY_LABELS, of.n, *labels)
        # It must become 0 once the last label is older than the period.
        metrics.set(families.QUALITY_LABELS, found.labels, found.model, found.version, SHARE)
        if found.expected is not None:
            metrics.set(families.QUALITY, found.expected, found.model, found.version, "expected")
