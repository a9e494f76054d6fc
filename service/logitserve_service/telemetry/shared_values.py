"""Metric values (float64) in memory that the workers share, one row per worker.

The memory is anonymous and allocated before the workers are forked, so no file can be full or
missing. A row is reused by the worker that replaces its worker, so counters never decrease.
prometheus_client's own objects lock and check the process id at every step: 7 µs more per request
(`benchmarks/seeing.py`).
"""

import logging
import mmap
from collections.abc import Mapping
from threading import Lock
from typing import Final

import orjson

Series = tuple[str, ...]
"""Name and label values of a series."""
Places = tuple["memoryview[float]", range]
"""The values of a row, and the indexes of one series in them."""

MAX_VALUES: Final = 2**20
_SPARE_VALUES: Final = 64  # at least the values of any series
MAX_NAME_BYTES: Final = 2**24
"""Bytes for the names in a row. The kernel allocates a page on its first write."""
_HEAD: Final = 16
_NAMES_END, _BEATS = 0, 1
_ROW_BYTES: Final = _HEAD + MAX_NAME_BYTES + 8 * MAX_VALUES

logger = logging.getLogger("logitserve.metrics")


class Row:
    """The series of one worker, which is the only writer; every process reads them."""

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self._head = memory[:_HEAD].cast("q")
        self._names = memory[_HEAD : _HEAD + MAX_NAME_BYTES]
        self.values: memoryview[float] = memory[_HEAD + MAX_NAME_BYTES :].cast("d")
        self._series: dict[Series, range] = {}
        self._read = 0  # bytes of names read so far
        self._next = 0  # index of the next value
        self._lock = Lock()  # scrapes and model loads run in threads
        self._is_full = False

    @property
    def beats(self) -> int:
        """Number of times that the gauges were written; 0 if no worker has written them."""
        return self._head[_BEATS]

    def beat(self) -> None:
        """Record that the worker is alive and its gauges are current."""
        self._head[_BEATS] += 1

    def drop(self) -> None:
        """Exclude the gauges of this row, as its worker has ended."""
        self._head[_BEATS] = 0

    def places(self, series: Series, width: int) -> Places:
        """Return the places of a series of `width` values; a missing series is created."""
        with self._lock:
            self._read_names()
            if series not in self._series:
                line = orjson.dumps([width, *series]) + b"\n"
                end = self._read + len(line)
                if end > MAX_NAME_BYTES or self._next + width > MAX_VALUES - _SPARE_VALUES:
                    return self.values, self._nowhere(width)
                self._names[self._read : end] = line
                self._head[_NAMES_END] = end  # from here on, other processes see the series
                self._read_names()
            return self.values, self._series[series]

    def series(self) -> Mapping[Series, range]:
        """Return the places of all series."""
        with self._lock:
            self._read_names()
            return self._series.copy()

    def _read_names(self) -> None:
        end = self._head[_NAMES_END]
        for line in bytes(self._names[self._read : end]).splitlines():
            width, *series = orjson.loads(line)
            self._series[tuple(series)] = range(self._next, self._next + width)
            self._next += width
        self._read = end

    def _nowhere(self, width: int) -> range:
        """Return spare places, which belong to no series."""
        if not self._is_full:
            self._is_full = True
            logger.error("there are too many metrics; new series are not counted")
        return range(MAX_VALUES - width, MAX_VALUES)  # within the spare values


def shared_rows(count: int) -> list[Row]:
    """Allocate rows for processes that are forked from this one."""
    memory = memoryview(mmap.mmap(-1, count * _ROW_BYTES))
    return [Row(memory[at : at + _ROW_BYTES]) for at in range(0, len(memory), _ROW_BYTES)]
