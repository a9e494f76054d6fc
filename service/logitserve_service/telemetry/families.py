"""The metric families of the service: names, labels and help texts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.utils import floatToGoString

from logitserve_service.telemetry.exchange import NO_MODEL, NO_VERSION, OTHER_ROUTE

Kind = Literal["counter", "histogram", "sum", "min", "max"]
"""A counter, a histogram, or a gauge with the aggregation over workers."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name and labels, and how the values of several workers are merged."""

    name: str  # without the prefix and the suffixes of counters and histograms
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "counter"
    bounds: tuple[float, ...] = ()  # upper bounds of a histogram's buckets, without +Inf
    prefix: str = "logitserve_"  # `process_` for the standard process metrics

    @property
    def is_gauge(self) -> bool:
        """Whether only values of live workers count."""
        return self.kind not in {"counter", "histogram"}

    @property
    def width(self) -> int:
        """Number of values of a series; a histogram has its sum and one value per bucket."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    def metric(self, series: Mapping[tuple[str, ...], Values]) -> Metric:
        """Return the samples of all series, given by label values."""
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
    "Requests by status: an HTTP status (of gRPC the equivalent one), or lost (the worker ended).",
    ("route", "model", "version", "status"),
)
IN_PROGRESS = Family("requests_in_progress", "Requests in progress.", (), "sum")
REQUEST_SECONDS = Family(
    "request_seconds",
    "Seconds from the first byte of a request until its response is passed to the kernel.",
    ("route", "model", "version", "status"),  # status: the class, such as 2xx
    "histogram",
    (
        *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
        *(0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ),
)
BATCH_SIZE = Family(
    "batch_size", "Images per model run.", _MODEL, "histogram", (1, 2, 4, 8, 16, 32, 64)
)
INFERENCE_SECONDS = Family(
    "inference_seconds", "Seconds per model run.", _MODEL, "histogram", _SHORT_SECONDS
)
PREPROCESSING_SECONDS = Family(
    "decode_seconds",
    "Seconds to decode and preprocess up to 64 images.",
    *(_MODEL, "histogram", _SHORT_SECONDS),
)
EXPLAIN_SECONDS = Family(
    "explain_seconds",
    "Seconds per explanation, by method: cam or occlusion.",
    *(("model", "method"), "histogram", (0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)),
)
STEP_SECONDS = Family(
    "step_seconds",
    "Seconds of answered requests by step: queue, decode, inference, output.",
    ("model", "step"),
)
CONFIDENCE = Family(
    "confidence",
    "Probability of the most probable label.",
    *(_MODEL, "histogram", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
)
PREDICTIONS = Family(
    "predictions",
    "Images by predicted label; of sigmoid models, each predicted label counts.",
    ("model", "version", "label"),
)
KNOWN = Family(
    "known", "Images by the `known` member of their prediction: true or false.", ("model", "known")
)
DRIFT = Family(
    "drift",
    "PSI of a feature against its baseline, minus its expectation by chance; longest full window.",
    *(("model", "feature"), "max"),
)
DRIFT_ALARM = Family("drift_alarm", "1 during a drift alarm.", ("model", "feature"), "max")
DRIFT_ALARMS = Family("drift_alarms", "Drift alarms raised.", ("model", "feature"))
SHADOW = Family(
    "shadow",
    "Images by outcome of the shadow: agrees, differs, dropped (overload), or failed.",
    ("model", "version", "outcome"),
)
BUILD_INFO = Family(
    "build_info", "Software versions; always 1.", ("version", "python", "onnxruntime"), "max"
)
CPU_SECONDS = Family("cpu_seconds", "CPU time of the workers in seconds.", prefix="process_")
STARTED = Family(
    *("start_time_seconds", "Start of the oldest worker, seconds since the epoch.", (), "min"),
    prefix="process_",
)
OPEN_FILES = Family("open_fds", "Open files of the workers.", (), "sum", prefix="process_")
MAX_FILES = Family("max_fds", "Limit of open files of the workers.", (), "sum", prefix="process_")
MODEL_VERSIONS = Family(
    "model_versions",
    "Versions in the repository by state: ready, loading, refused, or idle (policy or request).",
    *(("model", "state"), "max"),
)
WORKER_EXITS = Family(
    "worker_exits",
    "Workers replaced, by reason: oom (out of memory), hung, signal, exit.",
    ("reason",),
)
LOST_LINES = Family("access_log_lost_lines", "Access log lines that could not be written.")
LOAD_FAILURES = Family("model_load_failures", "Versions of a model that were refused.", _MODEL)
QUEUE = Family("queue_pictures", "Images queued for a model run.", _MODEL, "sum")
MODEL_INFO = Family(
    "model_info", "1 per version that all workers serve.", ("model", "version", "sha256"), "sum"
)
WORKERS = Family("workers", "Worker processes that serve.", (), "sum")
CONNECTIONS = Family("connections", "Open HTTP connections.", (), "sum")
RESIDENT_BYTES = Family(
    "resident_bytes", "Resident memory (RSS) of the workers; shared pages count in each.", (), "sum"
)
READY = Family("ready", "1 if every worker is ready.", (), "min")

MEMORY_LIMIT = Family(
    "memory_limit_bytes", "Memory limit of the service (cgroups, machine).", (), "max"
)
MEMORY_AVAILABLE = Family(
    "memory_available_bytes",
    "Memory available to the service (cgroups, machine).",
    *((), "min"),
)
LOOP_LAG = Family(
    "event_loop_lag_seconds",
    "Seconds by which a timer of the event loop is late.",
    *((), "histogram", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)),
)
STORE_ROWS = Family("store_rows", "Answers written to the store.")
STORE_DROPPED = Family(
    "store_dropped",
    "Answers not stored, by reason: overflow (queue full), locked, disk (full), failed.",
    ("reason",),
)
STORE_BYTES = Family("store_bytes", "Size of the store and its write-ahead log.", (), "max")
FEEDBACK = Family(
    "feedback",
    "Labels received: accepted, changed, same, expired, invalid; new_class counts in addition.",
    ("model", "outcome"),
)
QUALITY = Family(
    "quality",
    "Weighted quality of labeled answers by measure; `expected` is the accuracy on the card.",
    *(("model", "version", "measure"), "max"),
)
QUALITY_LOW = Family("quality_low", "Lower 95 % bound of the quality.", QUALITY.labels, "max")
QUALITY_HIGH = Family("quality_high", "Upper 95 % bound of the quality.", QUALITY.labels, "max")
QUALITY_LABELS = Family("quality_labels", "Labeled answers of the quality.", QUALITY.labels, "max")

LOST = (OTHER_ROUTE, NO_MODEL, NO_VERSION, "lost")
"""Label values of requests lost with their worker."""

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))
BY_NAME = {family.name: family for family in FAMILIES}
