"""The metrics of the service for Prometheus, aggregated over workers (`shared_values.py`)."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.telemetry.exchange import NO_MODEL, NO_VERSION
from logitserve_service.telemetry.families import (
    BATCH_SIZE,
    BY_NAME,
    CONFIDENCE,
    FAMILIES,
    IN_PROGRESS,
    INFERENCE_SECONDS,
    KNOWN,
    LOAD_FAILURES,
    LOST,
    MODEL_INFO,
    PREDICTIONS,
    PREPROCESSING_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    STEP_SECONDS,
    WORKERS,
    Family,
    Values,
)
from logitserve_service.telemetry.shared_values import Places, Row
from logitserve_service.telemetry.timing import Timing

_Answered = tuple[str, str, str, int]
"""Route, model, version and status."""
_MERGE = {"min": np.minimum, "max": np.maximum}


class Histogram:
    """One series of a histogram."""

    __slots__ = ("_array", "_bounds", "_buckets", "_sum", "_values")

    def __init__(self, bounds: tuple[float, ...], places: Places) -> None:
        self._bounds, self._array = bounds, np.array(bounds)
        self._values, (self._sum, *self._buckets) = places

    def observe(self, value: float) -> None:
        """Count one value."""
        self._values[self._sum] += value
        self._values[self._buckets[bisect_left(self._bounds, value)]] += 1

    def observe_all(self, values: npt.NDArray[np.float64]) -> None:
        """Count many values."""
        self._values[self._sum] += sum(values.tolist())
        _count((self._values, self._buckets), self._array.searchsorted(values))


def _count(
    places: tuple["memoryview[float]", Sequence[int]], indexes: npt.NDArray[np.integer[Any]]
) -> None:
    """Add to each value the number of occurrences of its index."""
    values, at = places
    for index, count in enumerate(np.bincount(indexes).tolist()):
        if count:
            values[at[index]] += count


_FEW = 12  # up to this many images, a loop is faster than array operations


class ModelMetrics:
    """Counts the runs of one model, all versions together except in the predictions by label."""

    def __init__(self, metrics: "Metrics", card: ModelCard) -> None:
        self._metrics = metrics
        self._batch_size = metrics.histogram(BATCH_SIZE, card.name)
        self._inference_seconds = metrics.histogram(INFERENCE_SECONDS, card.name)
        self._preprocessing_seconds = metrics.histogram(PREPROCESSING_SECONDS, card.name)
        self._confidence = metrics.histogram(CONFIDENCE, card.name)
        version = card.version
        series = [metrics.places(PREDICTIONS, card.name, version, label) for label in card.labels]
        self._labels = series[0][0], [place for _, (place,) in series]
        known = [metrics.places(KNOWN, card.name, text) for text in ("false", "true")]
        self._known = known[0][0], [place for _, (place,) in known]
        self._thresholds = heads.thresholds(card) if card.head is Head.SIGMOID else None

    def preprocessed(self, seconds: float) -> None:
        """Record the preprocessing of images and its seconds."""
        self._preprocessing_seconds.observe(seconds)

    def ran(self, seconds: float, predictions: Predictions) -> None:
        """Record a run of the network; called on the event loop."""
        self._batch_size.observe(len(predictions))
        self._inference_seconds.observe(seconds)
        probabilities, labels = predictions.probabilities, predictions.argmax
        if predictions.known is not None:
            values, (unknown, known) = self._known
            count = int(np.count_nonzero(predictions.known))
            values[known] += count
            values[unknown] += len(labels) - count
        if self._thresholds is not None:
            _count(self._labels, np.nonzero(probabilities >= self._thresholds)[1])
        elif len(labels) > _FEW:
            _count(self._labels, labels)
        else:
            values, places = self._labels
            for image, label in enumerate(labels.tolist()):
                values[places[label]] += 1
                self._confidence.observe(probabilities.item(image, label))
            return
        self._confidence.observe_all(probabilities[np.arange(len(labels)), labels])


def count_lost(row: Row) -> int:
    """Count the unanswered requests of an ended worker as lost; return their number."""
    values, (in_progress,) = row.places((IN_PROGRESS.name,), IN_PROGRESS.width)
    _, (lost,) = row.places((REQUESTS.name, *LOST), REQUESTS.width)
    count, values[in_progress] = values[in_progress], 0
    values[lost] += count
    return int(count)


class Metrics(Collector):
    """The metrics of this process; `collect` returns those of all processes that share the rows."""

    def __init__(self, rows: Sequence[Row], own: int = 0) -> None:
        """Write to the row with index `own`, which no other process may use."""
        self._rows = rows
        self.row = rows[own]
        self._versions = {NO_MODEL: {NO_VERSION}}
        self._answered: dict[_Answered, tuple[memoryview[float], int, Histogram]] = {}
        self._steps: dict[str, list[int]] = {}
        self.row.drop()
        for (name, *_), (place, *_) in self.row.series().items():
            if name in BY_NAME and BY_NAME[name].is_gauge:
                self.row.values[place] = 0  # of a previous process in this row
        self.add(REQUESTS, 0, *LOST)  # the counter must exist before its first increase
        self._values, (self._in_progress,) = self.places(IN_PROGRESS)

    def places(self, family: Family, *labels: str) -> Places:
        """Return the places of a series, given by family and label values."""
        return self.row.places((family.name, *labels), family.width)

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """Return a series of a histogram."""
        return Histogram(family.bounds, self.places(family, *labels))

    def add(self, family: Family, amount: float, *labels: str) -> None:
        """Add to a counter."""
        values, (place,) = self.places(family, *labels)
        values[place] += amount

    def set(self, family: Family, value: float, *labels: str) -> None:
        """Set a gauge."""
        values, (place,) = self.places(family, *labels)
        values[place] = value

    def model(self, card: ModelCard) -> ModelMetrics:
        """Return the metrics of a model's runs."""
        self._versions.setdefault(card.name, {NO_VERSION}).add(card.version)
        self.add(LOAD_FAILURES, 0, card.name)  # the counter must exist before its first increase
        return ModelMetrics(self, card)

    def begun(self) -> None:
        """Count a request in progress; `answered` must be called for it later."""
        self._values[self._in_progress] += 1

    def answered(self, route: str, model: str, version: str, status: int, seconds: float) -> None:
        """Count a response.

        `route` is never a raw path. A name that no model has or had counts as `NO_MODEL`, and a
        version that no model has or had as `NO_VERSION`.
        """
        series = self._answered.get((route, model, version, status))
        if series is None:
            if version not in self._versions.get(model, ()):
                known = model if model in self._versions else NO_MODEL
                self.answered(route, known, NO_VERSION, status, seconds)
                return
            of = route, model, version
            values, (place,) = self.places(REQUESTS, *of, str(status))
            series = values, place, self.histogram(REQUEST_SECONDS, *of, f"{status // 100}xx")
            self._answered[route, model, version, status] = series
        values, place, histogram = series
        values[place] += 1
        values[self._in_progress] -= 1
        histogram.observe(seconds)

    def spent(self, model: str, timing: Timing) -> None:
        """Add the step times of an answered request; each is the time of its whole batch."""
        places = self._steps.get(model)
        if places is None:
            steps = "queue", "decode", "inference", "output"
            places = [self.places(STEP_SECONDS, model, step)[1].start for step in steps]
            self._steps[model] = places
        queue, decode, inference, output = places
        self._values[queue] += timing.queue
        self._values[decode] += timing.preprocessing
        self._values[inference] += timing.inference
        self._values[output] += timing.output

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all workers in the format that `accept` prefers, and its type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all workers to prometheus_client."""
        merged: dict[Family, dict[tuple[str, ...], Values]] = {family: {} for family in FAMILIES}
        for row in self._rows:
            is_alive = row.beats > 0
            for (name, *labels), places in row.series().items():
                family = BY_NAME.get(name)
                # Series without a family, such as drift counts, are not exported.
                if family is None or (family.is_gauge and not is_alive):
                    continue
                values = np.array(row.values[places.start : places.stop])
                series, key = merged[family], tuple(labels)
                if key in series:
                    values = _MERGE.get(family.kind, np.add)(series[key], values)
                series[key] = values
        workers = merged[WORKERS].get((), 0)
        info = merged[MODEL_INFO]
        merged[MODEL_INFO] = {key: np.ones(1) for key, count in info.items() if count == workers}
        return [family.metric(series) for family, series in merged.items() if series]
