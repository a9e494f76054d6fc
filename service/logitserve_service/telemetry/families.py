"""The metrics of the service: their names, labels and meaning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.utils import floatToGoString

from logitserve_service.telemetry.exchange import NO_MODEL, OTHER_ROUTE

Kind = Literal["counter", "histogram", "sum", "min", "max"]
"""A counter, a histogram, or a gauge and what of several workers it is."""
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
BY_NAME = {family.name: family for family in FAMILIES}
