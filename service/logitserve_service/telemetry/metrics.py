"""The metrics of the service, for Prometheus. All add up over workers (`metric_files.py`)."""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.telemetry.exchange import NO_MODEL
from logitserve_service.telemetry.metric_files import Kind, Places, WorkerFiles, merged


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name and labels, and how the values of several workers are merged."""

    name: str  # without the prefix, and the suffixes of counters and histograms
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "counter"
    bounds: tuple[float, ...] = ()  # of a histogram's buckets, without the infinite one

    def keys(self, *values: str) -> list[str]:
        """Keys of a series in the files; a histogram has one for its sum and one a bucket."""
        name = f"logitserve_{self.name}"

        def key(suffix: str, **more: str) -> str:
            labels = {**dict(zip(self.labels, values, strict=True)), **more}
            return mmap_key(name, name + suffix, list(labels), list(labels.values()), self.help)

        if self.kind != "histogram":
            return [key("_total" if self.kind == "counter" else "")]
        bounds = map(floatToGoString, (*self.bounds, math.inf))
        return [key("_sum"), *(key("_bucket", le=bound) for bound in bounds)]


_MODEL = ("model",)
_SHORT_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)

REQUESTS = Family(
    "requests",
    "Requests that were answered; of gRPC, with the status that HTTP would have given.",
    ("route", "model", "status"),
)
REQUEST_SECONDS = Family(
    "request_seconds",
    "Seconds from the first byte of a request until its response was handed to the kernel.",
    ("route",),
    "histogram",
    (
        *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
        *(0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
)
BATCH_SIZE = Family(
    "batch_size", "Images in one run.", _MODEL, "histogram", (1, 2, 4, 8, 16, 32, 64)
)
INFERENCE_SECONDS = Family(
    "inference_seconds", "Seconds of one run.", _MODEL, "histogram", _SHORT_SECONDS
)
PREPROCESSING_SECONDS = Family(
    "decode_seconds",
    "Seconds to make the network's input of up to 64 images.",
    *(_MODEL, "histogram", _SHORT_SECONDS),
)
CONFIDENCE = Family(
    "confidence",
    "Probability of the most probable label.",
    *(_MODEL, "histogram", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
)
PREDICTIONS = Family(
    "predictions",
    "Images by predicted label; where several labels may hold, each counts.",
    ("model", "label"),
)
LOAD_FAILURES = Family("model_load_failures", "Refused versions of a model.", _MODEL)
QUEUE = Family("queue_pictures", "Images that wait for a run.", _MODEL, "gauge_livesum")
MODEL_INFO = Family(
    "model_info", "1 for what is served.", ("model", "version", "sha256"), "gauge_livemax"
)
WORKERS = Family("workers", "Processes that serve.", (), "gauge_livesum")
CONNECTIONS = Family("connections", "Open HTTP connections.", (), "gauge_livesum")
RESIDENT_BYTES = Family("resident_bytes", "Memory of the workers (RSS).", (), "gauge_livesum")
READY = Family("ready", "1 where every worker can answer.", (), "gauge_livemin")

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))


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


def _count(places: Places, indexes: npt.NDArray[np.integer[Any]]) -> None:
    """Add to each place how often its index occurs."""
    values, at = places
    for index, count in enumerate(np.bincount(indexes).tolist()):
        if count:
            values[at[index]] += count


_FEW = 12  # images are counted faster one by one than as arrays


class ModelMetrics:
    """Counts the runs of one model; its versions count together."""

    def __init__(self, metrics: "Metrics", card: ModelCard) -> None:
        self._batch_size = metrics.histogram(BATCH_SIZE, card.name)
        self._inference_seconds = metrics.histogram(INFERENCE_SECONDS, card.name)
        self._preprocessing_seconds = metrics.histogram(PREPROCESSING_SECONDS, card.name)
        self._confidence = metrics.histogram(CONFIDENCE, card.name)
        self._labels = metrics.places(PREDICTIONS, *((card.name, label) for label in card.labels))
        self._thresholds = heads.thresholds(card) if card.head is Head.SIGMOID else None

    def preprocessed(self, seconds: float) -> None:
        """Count the preprocessing of images."""
        self._preprocessing_seconds.observe(seconds)

    def ran(self, seconds: float, predictions: Predictions) -> None:
        """Count a run of the network, on the event loop."""
        self._batch_size.observe(len(predictions))
        self._inference_seconds.observe(seconds)
        probabilities, labels = predictions.probabilities, predictions.argmax
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


class Metrics(Collector):
    """The counts of this worker; collected, those of all workers that share its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = WorkerFiles(folder)
        self._lock = Lock()  # models are loaded in a thread
        self._models = {NO_MODEL}
        self._answered: dict[tuple[str, str, int], tuple[memoryview[float], int, Histogram]] = {}
        self.set(WORKERS, 1)

    def places(self, family: Family, *series: tuple[str, ...]) -> Places:
        """Places of series of a family, by their label values."""
        keys = [key for labels in series for key in family.keys(*labels)]
        with self._lock:
            return self._files.places(family.kind, keys)

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """A series of a histogram."""
        return Histogram(family.bounds, self.places(family, labels))

    def add(self, family: Family, amount: float, *labels: str) -> None:
        """Add to a counter."""
        values, (place,) = self.places(family, labels)
        values[place] += amount

    def set(self, family: Family, value: float, *labels: str) -> None:
        """Set a gauge."""
        values, (place,) = self.places(family, labels)
        values[place] = value

    def model(self, card: ModelCard) -> ModelMetrics:
        """The metrics of a model's runs."""
        self._models.add(card.name)
        self.add(LOAD_FAILURES, 0, card.name)  # so that the first failure is seen to add one
        return ModelMetrics(self, card)

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a response.

        `route` is never a raw path; a name that no model has or had counts as `NO_MODEL`.
        """
        series = self._answered.get((route, model, status))
        if series is None:
            if model not in self._models:
                self.answered(route, NO_MODEL, status, seconds)
                return
            values, (place,) = self.places(REQUESTS, (route, model, str(status)))
            series = values, place, self.histogram(REQUEST_SECONDS, route)
            self._answered[route, model, status] = series
        values, place, histogram = series
        values[place] += 1
        histogram.observe(seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all workers in the format that `accept` prefers, and its media type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """The metrics of all workers, for prometheus_client."""
        for metric in merged(self._folder):
            if metric.name == f"logitserve_{MODEL_INFO.name}":
                # A value in a file cannot be removed; a version is set to 0 when it is unloaded.
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric

    def close(self) -> None:
        """Release the files; the counts stay."""
        self._files.close()
