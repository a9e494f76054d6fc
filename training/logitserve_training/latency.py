"""Measure the latency of a model by batch size."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from logitserve.inference.predictor import Predictor

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_SECONDS: Final = 0.2
"""Seconds per batch size."""
_FEWEST: Final = 5
"""Minimum number of runs per batch size."""


@dataclass(frozen=True, slots=True)
class Latency:
    """CPU seconds of one run on one thread; waiting is excluded."""

    processor: str
    batches: tuple[int, ...]
    median: tuple[float, ...]
    """Median per batch size."""
    slowest_tenth: tuple[float, ...]
    """90th percentile per batch size."""


def measure(predictor: Predictor) -> Latency:
    """Time `Predictor.predict`, opened with one thread, on random pictures."""
    generator = np.random.default_rng(0)
    shape = predictor.card.input.shape
    timed = []
    for batch in BATCHES:
        images = generator.integers(0, 256, (batch, *shape), dtype=np.uint8)
        predictor.predict(images)
        seconds: list[float] = []
        while len(seconds) < _FEWEST or sum(seconds) < _SECONDS:
            begun = time.thread_time()
            predictor.predict(images)
            seconds.append(time.thread_time() - begun)
        timed.append(np.quantile(seconds, [0.5, 0.9]).tolist())
    return Latency(
        processor=processor(),
        batches=BATCHES,
        median=tuple(median for median, _ in timed),
        slowest_tenth=tuple(slow for _, slow in timed),
    )


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name from Linux, else the architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
