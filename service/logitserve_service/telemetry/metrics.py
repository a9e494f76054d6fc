"""What the service counts and measures, for Prometheus.

Everything adds up over workers: see `metric_files.py`. Families are named once, in `FAMILIES`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.telemetry.metric_files import (
    COUNTER,
    GAUGE_MAX,
    GAUGE_MIN,
    GAUGE_SUM,
    HISTOGRAM,
    Places,
    WorkerFiles,
    merged,
)

OTHER_ROUTE = "other"
"""The route of a request that is for none: raw paths are not labels, or anybody could fill the
memory of whoever scrapes."""

NO_MODEL = ""
"""The model of a request that is for none, or for one that is not there."""

_SECONDS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_SHORT_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what it is called, what its labels are, how workers' values are merged."""

    name: str
    """Without the prefix, and without the suffixes that counters and histograms get."""
    help: str
    labels: tuple[str, ...] = ()
    kind: str = COUNTER
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets, without the last, which is infinite."""

    def keys(self, *values: str) -> list[str]:
        """The keys under which the series with these label values is kept in files."""
        name = f"logitserve_{self.name}"

        def key(series: str, **more: str) -> str:
            labels = {**dict(zip(self.labels, values, strict=True)), **more}
            return mmap_key(name, series, list(labels), list(labels.values()), self.help)

        if self.kind == COUNTER:
            return [key(f"{name}_total")]
        if self.kind != HISTOGRAM:
            return [key(name)]
        bounds = (*self.bounds, float("inf"))
        buckets = [key(f"{name}_bucket", le=floatToGoString(bound)) for bound in bounds]
        return [key(f"{name}_sum"), *buckets]


REQUESTS = Family(
    "requests",
    "Requests that were answered; of gRPC, with the status that HTTP would have given.",
    ("route", "model", "status"),
)
REQUEST_SECONDS = Family(
    "request_seconds",
    "Seconds from the first byte of a request until its answer was handed to the kernel.",
    ("route",),
    HISTOGRAM,
    _SECONDS,
)
BATCH_SIZE = Family("batch_size", "Pictures in one run.", ("model",), HISTOGRAM, _PICTURES)
QUEUE = Family("queue_pictures", "Pictures that wait for a run.", ("model",), GAUGE_SUM)
INFERENCE_SECONDS = Family(
    "inference_seconds", "Seconds of one run.", ("model",), HISTOGRAM, _SHORT_SECONDS
)
DECODE_SECONDS = Family(
    "decode_seconds",
    "Seconds to make the network's input of up to 64 pictures.",
    ("model",),
    HISTOGRAM,
    _SHORT_SECONDS,
)
PREDICTIONS = Family(
    "predictions",
    "Pictures by predicted label; where several labels may hold, each counts.",
    ("model", "label"),
)
CONFIDENCE = Family(
    "confidence", "Probability of the most probable label.", ("model",), HISTOGRAM, _SHARES
)
MODEL_INFO = Family(
    "model_info", "1 for what is served.", ("model", "version", "sha256"), GAUGE_MAX
)
LOAD_FAILURES = Family(
    "model_load_failures", "Times that a version of a model was refused.", ("model",)
)
WORKERS = Family("workers", "Processes that serve.", (), GAUGE_SUM)
CONNECTIONS = Family("connections", "Open HTTP connections.", (), GAUGE_SUM)
RESIDENT_BYTES = Family("resident_bytes", "Memory of the workers (RSS).", (), GAUGE_SUM)
READY = Family("ready", "1 where every worker can answer.", (), GAUGE_MIN)

FAMILIES = (
    REQUESTS,
    REQUEST_SECONDS,
    BATCH_SIZE,
    QUEUE,
    INFERENCE_SECONDS,
    DECODE_SECONDS,
    PREDICTIONS,
    CONFIDENCE,
    MODEL_INFO,
    LOAD_FAILURES,
    WORKERS,
    CONNECTIONS,
    RESIDENT_BYTES,
    READY,
)


class Value:
    """One series that is a number: a counter or a gauge."""

    __slots__ = ("_place", "_values")

    def __init__(self, places: Places) -> None:
        self._values, (self._place,) = places

    def add(self, amount: float = 1) -> None:
        """Count."""
        self._values[self._place] += amount

    def set(self, value: float) -> None:
        """Say how it is now."""
        self._values[self._place] = value


class Histogram:
    """One series that is a histogram."""

    __slots__ = ("_bounds", "_buckets", "_sum", "_values")

    def __init__(self, bounds: Sequence[float], places: Places) -> None:
        self._bounds = bounds
        self._values, (self._sum, *self._buckets) = places

    def observe(self, value: float) -> None:
        """Count a value into its bucket."""
        self._values[self._sum] += value
        self._values[self._buckets[bisect_left(self._bounds, value)]] += 1


class ModelMetrics:
    """What is counted of the runs of one model; its versions count together."""

    def __init__(self, metrics: "Metrics", card: ModelCard) -> None:
        name = card.name
        self._decode_seconds = metrics.histogram(DECODE_SECONDS, name)
        self._batch_size = metrics.histogram(BATCH_SIZE, name)
        self._inference_seconds = metrics.histogram(INFERENCE_SECONDS, name)
        self._confidence = metrics.histogram(CONFIDENCE, name)
        self._labels = [metrics.value(PREDICTIONS, name, label) for label in card.labels]
        self._thresholds = heads.thresholds(card) if card.head is Head.SIGMOID else None

    def decoded(self, seconds: float) -> None:
        """Count what it took to make the network's input."""
        self._decode_seconds.observe(seconds)

    def ran(self, batch_size: int, seconds: float) -> None:
        """Count a run.

        Args:
            batch_size: pictures in it.
            seconds: that it took.
        """
        self._batch_size.observe(batch_size)
        self._inference_seconds.observe(seconds)

    def predicted(self, predictions: Predictions) -> None:
        """Count what a run said of its pictures."""
        probabilities = predictions.probabilities
        if self._thresholds is None:
            for label in predictions.argmax.tolist():
                self._labels[label].add()
        else:
            counts = (probabilities >= self._thresholds).sum(axis=0)
            for label in np.flatnonzero(counts):
                self._labels[label].add(int(counts[label]))
        for probability in probabilities.max(axis=1).tolist():
            self._confidence.observe(probability)


class _Answered:
    """The two series that an answer belongs to."""

    __slots__ = ("count", "seconds")

    def __init__(self, count: Value, seconds: Histogram) -> None:
        self.count = count
        self.seconds = seconds


class Metrics:
    """What this worker counts, and what all workers counted together."""

    def __init__(self, folder: Path) -> None:
        """Begin to count.

        Args:
            folder: of this service alone; its workers share it.
        """
        self._folder = folder
        self._files = WorkerFiles(folder)
        self._models = {NO_MODEL}
        self._answered: dict[tuple[str, str, int], _Answered] = {}
        self.value(WORKERS).set(1)

    def value(self, family: Family, *labels: str) -> Value:
        """A series of a counter or gauge."""
        return Value(self._files.places(family.kind, family.keys(*labels)))

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """A series of a histogram."""
        return Histogram(family.bounds, self._files.places(family.kind, family.keys(*labels)))

    def model(self, card: ModelCard) -> ModelMetrics:
        """Who counts the runs of a model."""
        self._models.add(card.name)
        self.value(LOAD_FAILURES, card.name)  # at 0, so that the first failure is seen to add one
        return ModelMetrics(self, card)

    def load_failed(self, model: str, times: int) -> None:
        """Count that versions of a model were refused."""
        self.value(LOAD_FAILURES, model).add(times)

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            route: as it is documented, `/models/{name}/predict`; never a path that came in.
            model: which it was for; a name that no model has or had counts as `NO_MODEL`.
            status: of HTTP.
            seconds: since the first byte of the request.
        """
        series = self._answered.get((route, model, status))
        if series is None:
            if model not in self._models:
                self.answered(route, NO_MODEL, status, seconds)
                return
            series = self._answered[route, model, status] = _Answered(
                self.value(REQUESTS, route, model, str(status)),
                self.histogram(REQUEST_SECONDS, route),
            )
        series.count.add()
        series.seconds.observe(seconds)

    def refused(self, status: int, seconds: float) -> None:
        """Count an answer to what was not read to its end: nobody knows what it was for.

        Args:
            status: of HTTP.
            seconds: since the first byte.
        """
        self.answered(OTHER_ROUTE, NO_MODEL, status, seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What all workers of the service counted, as text.

        Args:
            accept: the header of the request; OpenMetrics is given where it asks for it.

        Returns:
            the text, and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(_Merged(self._folder)), content_type


class _Merged(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        for metric in merged(self._folder):
            if metric.name == f"logitserve_{MODEL_INFO.name}":
                # A value in a file cannot be taken back; what is no longer served is set to 0.
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric
