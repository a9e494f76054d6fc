"""Numbers of each worker in files that all workers read, in the format of prometheus_client.

That library's own objects take a lock and look at the process id at every step, which costs
1.3 µs to count and 2.9 µs to observe where several processes add up; a request has ten such steps.
The same file, mapped into memory and added to in place, costs about a sixth
(`benchmarks/seeing.py`), and what was counted survives a worker that is killed. Merging is left to
the library.

A worker holds a slot: a number in the names of its files, and a lock that the kernel lets go when
the process ends, however it ends. The next worker takes a free slot over and counts on from where
its predecessor was, so that counters never fall and files do not pile up; gauges of a slot that
nobody holds are dropped.
"""

import fcntl
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

COUNTER = "counter"
HISTOGRAM = "histogram"
GAUGE_SUM = "gauge_livesum"
GAUGE_MIN = "gauge_livemin"
GAUGE_MAX = "gauge_livemax"
"""Kinds of files, and with them how the library merges what several workers say."""

Places = tuple["memoryview[float]", list[int]]
"""Mapped float64 values, and where among them those are that were asked for."""


class WorkerFiles:
    """The files of this worker, for as long as its process lives."""

    def __init__(self, folder: Path) -> None:
        """Take a slot.

        Args:
            folder: which the workers of a service share.
        """
        self._folder = folder
        self._slot, self._held = _take_slot(folder)
        _drop_gauges(folder, self._slot)
        self._files: dict[str, _ValueFile] = {}

    def places(self, kind: str, keys: Sequence[str]) -> Places:
        """Where the values of some series are; a series that is not there yet begins at 0.

        Args:
            kind: one of the kinds above.
            keys: of the series, made by `prometheus_client.mmap_dict.mmap_key`.
        """
        file = self._files.get(kind)
        if file is None:
            file = self._files[kind] = _opened(self._folder / f"{kind}_{self._slot}.db")
        return file.places(keys)

    def close(self) -> None:
        """Let the slot go; what was counted stays."""
        for file in self._files.values():
            file.close()
        self._held.close()


class _ValueFile(MmapedDict):
    """The library's file of values by key, with its values within reach."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))  # type: ignore[no-untyped-call]

    def places(self, keys: Sequence[str]) -> Places:
        for key in keys:
            # Makes the value, where it is not there yet.
            super().read_value(key)  # type: ignore[no-untyped-call]
        # When the file grows it is mapped anew; earlier views stay maps of the same pages.
        return memoryview(self._m).cast("d"), [self._positions[key] // 8 for key in keys]

    def close(self) -> None:
        # Not the map: views of it are still held.
        self._f.close()


def _opened(path: Path) -> _ValueFile:
    if path.exists():
        return _ValueFile(path)
    # Whoever merges the files must not meet one that has not got its header yet.
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    file = _ValueFile(unfinished)
    unfinished.rename(path)
    return file


def merged(folder: Path) -> Iterable[Metric]:
    """What all workers of a service, living and dead, have counted; gauges of the living alone."""
    for lock in folder.glob("slot_*.lock"):
        with lock.open("ab") as file:
            if _locked(file):
                _drop_gauges(folder, int(lock.stem.removeprefix("slot_")))
    metrics: Iterable[Metric] = MultiProcessCollector(None, str(folder)).collect()
    return metrics


def _take_slot(folder: Path) -> tuple[int, BinaryIO]:
    for slot in itertools.count():
        file = (folder / f"slot_{slot}.lock").open("ab")
        if _locked(file):
            return slot, file
        file.close()
    raise AssertionError  # the count has no end


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_gauges(folder: Path, slot: int) -> None:
    for path in folder.glob(f"gauge_*_{slot}.db"):
        path.unlink(missing_ok=True)
