"""The metrics of the service, for Prometheus. All add up over workers (`shared_values.py`)."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.telemetry.exchange import NO_MODEL, OTHER_ROUTE
from logitserve_service.telemetry.shared_values import Places, Row
from logitserve_service.telemetry.timing import Timing

Kind = Literal["counter", "histogram", "sum", "min", "max"]
"""A counter, a histogram, or a gauge and what of several workers it is."""
_MERGE = {"min": np.minimum, "max": np.maximum}
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name and labels, and how the values of several workers are merged."""

    name: str  # without the prefix, and the suffixes of counters and histograms
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "counter"
    bounds: tuple[float, ...] = ()  # of a histogram's buckets, without the infinite one
    prefix: str = "logitserve_"  # or that of all programs

    @property
    def is_gauge(self) -> bool:
        """Whether its values are of living workers alone."""
        return self.kind not in {"counter", "histogram"}

    @property
    def width(self) -> int:
        """Values of a series; a histogram has its sum and one a bucket."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    def metric(self, series: Mapping[tuple[str, ...], Values]) -> Metric:
        """The samples of all series, by their label values."""
        kind = "gauge" if self.is_gauge else self.kind
        metric = Metric(f"{self.prefix}{self.name}", self.help, kind)
        for labels, values in series.items():
            named = dict(zip(self.labels, labels, strict=True))
            if self.kind == "histogram":
                self._add_histogram(metric, named, values.tolist())
            else:
                suffix = "_total" if self.kind == "counter" else ""
                metric.add_sample(metric.name + suffix, named, float(values[0]))
        return metric

    def _add_histogram(self, metric: Metric, named: dict[str, str], values: list[float]) -> None:
        total, *counts = values
        below = list(accumulate(counts))
        for bound, count in zip((*self.bounds, math.inf), below, strict=True):
            bucket = {**named, "le": floatToGoString(bound)}
            metric.add_sample(f"{metric.name}_bucket", bucket, count)
        metric.add_sample(f"{metric.name}_count", named, below[-1])
        metric.add_sample(f"{metric.name}_sum", named, total)


_MODEL = ("model",)
_SHORT_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)

REQUESTS = Family(
    "requests",
    "Requests by their outcome: a status, of gRPC the one that HTTP would have given, or lost.",
    ("route", "model", "status"),
)
IN_PROGRESS = Family(
    "requests_in_progress", "Requests that have begun and are not answered.", (), "sum"
)
REQUEST_SECONDS = Family(
    "request_seconds",
    "Seconds from the first byte of a request until its response was handed to the kernel.",
    ("route", "model", "status"),  # the status as its class: 2xx
    "histogram",
    (
        *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
        *(0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
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
EXPLAIN_SECONDS = Family(
    "explain_seconds",
    "Seconds to explain an answer; cam or occlusion.",
    *(("model", "method"), "histogram", (0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)),
)
STEP_SECONDS = Family(
    "step_seconds",
    "Seconds that answered requests took by step: queue, decode, inference, output.",
    ("model", "step"),
)
CONFIDENCE = Family(
    "confidence",
    "Probability of the most probable label.",
    *(_MODEL, "histogram", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
)
PREDICTIONS = Family(
    "predictions",
    "Images by predicted label; where several labels may hold, each counts.",
    ("model", "version", "label"),
)
KNOWN = Family(
    "known", "Images by `known` of their predictions: true or false.", ("model", "known")
)
DRIFT = Family(
    "drift",
    "How far a feature is from normal: PSI less chance, of the longest window that was full.",
    *(("model", "feature"), "max"),
)
DRIFT_ALARM = Family("drift_alarm", "1 while a feature is not normal.", ("model", "feature"), "max")
DRIFT_ALARMS = Family("drift_alarms", "Alarms that began.", ("model", "feature"))
SHADOW = Family(
    "shadow",
    "Images by what a shadow gave: it agrees, differs, was dropped for load, or failed.",
    ("model", "version", "outcome"),
)
BUILD_INFO = Family("build_info", "1 for what runs.", ("version", "python", "onnxruntime"), "max")
CPU_SECONDS = Family("cpu_seconds", "CPU time of the workers.", prefix="process_")
STARTED = Family(
    *("start_time_seconds", "When the oldest worker started, since the epoch.", (), "min"),
    prefix="process_",
)
OPEN_FILES = Family("open_fds", "Open files of the workers.", (), "sum", prefix="process_")
MAX_FILES = Family("max_fds", "Files that the workers may have open.", (), "sum", prefix="process_")
MODEL_VERSIONS = Family(
    "model_versions",
    "Versions in the repository: ready, loading, refused, or idle (policy or request).",
    *(("model", "state"), "max"),
)
WORKER_EXITS = Family(
    "worker_exits",
    "Workers that were replaced: oom (out of memory), hung, signal, exit.",
    ("reason",),
)
LOST_LINES = Family("access_log_lost_lines", "Lines of the access log that could not be written.")
LOAD_FAILURES = Family("model_load_failures", "Refused versions of a model.", _MODEL)
QUEUE = Family("queue_pictures", "Images that wait for a run.", _MODEL, "sum")
MODEL_INFO = Family(
    "model_info", "1 for what every worker serves.", ("model", "version", "sha256"), "sum"
)
WORKERS = Family("workers", "Processes that serve.", (), "sum")
CONNECTIONS = Family("connections", "Open HTTP connections.", (), "sum")
RESIDENT_BYTES = Family(
    "resident_bytes", "Memory of the workers (RSS); what they share counts in each.", (), "sum"
)
READY = Family("ready", "1 where every worker can answer.", (), "min")

MEMORY_LIMIT = Family(
    "memory_limit_bytes", "Memory that all processes of the service may use.", (), "max"
)
MEMORY_AVAILABLE = Family(
    "memory_available_bytes",
    "Memory that the service may use besides what is in use, by whomever.",
    *((), "min"),
)
LOOP_LAG = Family(
    "event_loop_lag_seconds",
    "Seconds that the event loop came late to a timer.",
    *((), "histogram", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)),
)
STORE_ROWS = Family("store_rows", "Answers that were kept.")
STORE_DROPPED = Family(
    "store_dropped",
    "Answers that were not kept: overflow (too many waited), locked, disk (full), failed.",
    ("reason",),
)
STORE_BYTES = Family("store_bytes", "Size of the store and its log.", (), "max")
FEEDBACK = Family(
    "feedback",
    "Labels that were sent: accepted, changed, same, expired, invalid; new_class besides.",
    ("model", "outcome"),
)
QUALITY = Family(
    "quality",
    "Of the answers whose label is known, weighted; `expected` is the card's share of right ones.",
    *(("model", "version", "measure"), "max"),
)
QUALITY_LOW = Family("quality_low", "Lower end of its 95 % interval.", QUALITY.labels, "max")
QUALITY_HIGH = Family("quality_high", "Upper end of its 95 % interval.", QUALITY.labels, "max")
QUALITY_LABELS = Family("quality_labels", "Answers that it is of.", QUALITY.labels, "max")

LOST = (OTHER_ROUTE, NO_MODEL, "lost")
"""Labels of requests that ended with their worker."""

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))
_BY_NAME = {family.name: family for family in FAMILIES}


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
        version = card.version
        series = [metrics.places(PREDICTIONS, card.name, version, label) for label in card.labels]
        self._labels = series[0][0], [place for _, (place,) in series]
        known = [metrics.places(KNOWN, card.name, text) for text in ("false", "true")]
        self._known = known[0][0], [place for _, (place,) in known]
        self._thresholds = heads.thresholds(card) if card.head is Head.SIGMOID else None

    def preprocessed(self, seconds: float) -> None:
        """Count the preprocessing of images."""
        self._preprocessing_seconds.observe(seconds)

    def ran(self, seconds: float, predictions: Predictions) -> None:
        """Count a run of the network, on the event loop."""
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
    """Count what a worker that has ended has not answered; return how many requests that are."""
    values, (in_progress,) = row.places((IN_PROGRESS.name,), IN_PROGRESS.width)
    _, (lost,) = row.places((REQUESTS.name, *LOST), REQUESTS.width)
    count, values[in_progress] = values[in_progress], 0
    values[lost] += count
    return int(count)


class Metrics(Collector):
    """The counts of this process; collected, those of all processes that share the rows."""

    def __init__(self, rows: Sequence[Row], own: int = 0) -> None:
        """Count in the row with the number `own`, which no other process may have."""
        self._rows = rows
        self.row = rows[own]
        self._models = {NO_MODEL}
        self._answered: dict[tuple[str, str, int], tuple[memoryview[float], int, Histogram]] = {}
        self._steps: dict[str, list[int]] = {}
        self.row.drop()
        for (name, *_), (place, *_) in self.row.series().items():
            if name in _BY_NAME and _BY_NAME[name].is_gauge:
                self.row.values[place] = 0  # of a predecessor
        self.add(REQUESTS, 0, *LOST)  # so that the first one is seen to add one
        self._values, (self._in_progress,) = self.places(IN_PROGRESS)

    def places(self, family: Family, *labels: str) -> Places:
        """Places of a series of a family, by its label values."""
        return self.row.places((family.name, *labels), family.width)

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """A series of a histogram."""
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
        """The metrics of a model's runs."""
        self._models.add(card.name)
        self.add(LOAD_FAILURES, 0, card.name)  # so that the first failure is seen to add one
        return ModelMetrics(self, card)

    def begun(self) -> None:
        """Count a request that has begun; `answered` must follow."""
        self._values[self._in_progress] += 1

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a response.

        `route` is never a raw path; a name that no model has or had counts as `NO_MODEL`.
        """
        series = self._answered.get((route, model, status))
        if series is None:
            if model not in self._models:
                self.answered(route, NO_MODEL, status, seconds)
                return
            values, (place,) = self.places(REQUESTS, route, model, str(status))
            histogram = self.histogram(REQUEST_SECONDS, route, model, f"{status // 100}xx")
            series = values, place, histogram
            self._answered[route, model, status] = series
        values, place, histogram = series
        values[place] += 1
        values[self._in_progress] -= 1
        histogram.observe(seconds)

    def spent(self, model: str, timing: Timing) -> None:
        """Count the steps of a request that was answered; each is its batch's whole."""
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
        """The metrics of all workers in the format that `accept` prefers, and its media type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """The metrics of all workers, for prometheus_client."""
        merged: dict[Family, dict[tuple[str, ...], Values]] = {family: {} for family in FAMILIES}
        for row in self._rows:
            is_alive = row.beats > 0
            for (name, *labels), places in row.series().items():
                family = _BY_NAME.get(name)
                # Another room's counts have no family, and are not shown.
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
