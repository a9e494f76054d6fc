"""Float64 values of metrics in memory that the workers share: a row for each worker.

The memory is anonymous and made before the workers are forked, so that no file can be full or
missing. A row outlives its worker, and the next one counts on in it: counters never fall.
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
"""Name and label values."""
Places = tuple["memoryview[float]", range]
"""The values of a row, and the indexes of a series among them."""

MAX_VALUES: Final = 2**20
_SPARE_VALUES: Final = 64  # more than a series has
MAX_NAME_BYTES: Final = 2**24
"""Of a row. The kernel gives a page when it is first written."""
_HEAD: Final = 16
_NAMES_END, _BEATS = 0, 1
_ROW_BYTES: Final = _HEAD + MAX_NAME_BYTES + 8 * MAX_VALUES

logger = logging.getLogger("logitserve.metrics")


class Row:
    """The series of one worker. It alone writes them; every process reads them."""

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self._head = memory[:_HEAD].cast("q")
        self._names = memory[_HEAD : _HEAD + MAX_NAME_BYTES]
        self.values: memoryview[float] = memory[_HEAD + MAX_NAME_BYTES :].cast("d")
        self._series: dict[Series, range] = {}
        self._read = 0  # bytes of names
        self._next = 0  # index of the next value
        self._lock = Lock()  # a scrape and the loading of models have threads
        self._is_full = False

    @property
    def beats(self) -> int:
        """How often the gauges were written; 0 while no worker has done so."""
        return self._head[_BEATS]

    def beat(self) -> None:
        """Show that the worker is alive, and its gauges are right."""
        self._head[_BEATS] += 1

    def drop(self) -> None:
        """Let the gauges count no longer."""
        self._head[_BEATS] = 0

    def places(self, series: Series, width: int) -> Places:
        """Places of a series of so many values, which is made where it is missing."""
        with self._lock:
            self._read_names()
            if series not in self._series:
                line = orjson.dumps([width, *series]) + b"\n"
                end = self._read + len(line)
                if end > MAX_NAME_BYTES or self._next + width > MAX_VALUES - _SPARE_VALUES:
                    return self.values, self._nowhere(width)
                self._names[self._read : end] = line
                self._head[_NAMES_END] = end  # from here on, others see it
                self._read_names()
            return self.values, self._series[series]

    def series(self) -> Mapping[Series, range]:
        """Places of all series."""
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
        """Places that no series has."""
        if not self._is_full:
            self._is_full = True
            logger.error("there are too many metrics; new series are not counted")
        return range(MAX_VALUES - width, MAX_VALUES)  # within the spare ones


def shared_rows(count: int) -> list[Row]:
    """Rows for processes that are forked from this one."""
    memory = memoryview(mmap.mmap(-1, count * _ROW_BYTES))
    return [Row(memory[at : at + _ROW_BYTES]) for at in range(0, len(memory), _ROW_BYTES)]
