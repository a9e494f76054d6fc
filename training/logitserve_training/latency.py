"""How long a model takes, by the number of pictures in a run."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from logitserve.inference.predictor import Predictor

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_SECONDS: Final = 0.2
"""For each size of batch."""
_FEWEST: Final = 5
"""Runs of each size of batch, however long they take."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one run on one thread: of its CPU, to which waiting for others adds nothing."""

    processor: str
    batches: tuple[int, ...]
    median: tuple[float, ...]
    """For each size of batch."""
    slowest_tenth: tuple[float, ...]
    """For each size of batch, the 90th percentile."""


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
    """The processor's name as Linux gives it, else its architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
