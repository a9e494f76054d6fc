"""Metrics of each worker in memory-mapped files, which prometheus_client merges.

Its own objects lock and check the process id at every step: 7 µs more per request
(`benchmarks/seeing.py`). A worker holds a slot: a number in the names of its files, and a lock that
the kernel releases when the process ends. The next worker takes a free slot and adds to its
counters, so that they never fall; gauges of a free slot are dropped.
"""

import fcntl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

Kind = Literal["counter", "histogram", "gauge_livesum", "gauge_livemin", "gauge_livemax"]
"""Of a file; prometheus_client merges the values of several workers by kind."""
Places = tuple["memoryview[float]", list[int]]
"""Mapped float64 values, and the indexes of a series among them."""


class WorkerFiles:
    """The files of this worker, in a folder that all workers share."""

    def __init__(self, folder: Path) -> None:
        slot = 0
        while not _locked(lock := (folder / f"slot_{slot}.lock").open("ab")):
            lock.close()
            slot += 1
        _drop_gauges(folder, slot)
        self._folder, self._slot, self._lock = folder, slot, lock
        self._files: dict[Kind, _ValueFile] = {}

    def places(self, kind: Kind, keys: Sequence[str]) -> Places:
        """Places of the values with these keys of `mmap_key`; a new value is 0."""
        if kind not in self._files:
            self._files[kind] = _ValueFile(self._folder / f"{kind}_{self._slot}.db")
        return self._files[kind].places(keys)

    def close(self) -> None:
        """Release the slot; the counts stay."""
        for file in self._files.values():
            file.close()
        self._lock.close()


class _ValueFile(MmapedDict):
    """The library's file of values by key, with access to the mapped values."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            # Renamed when it has its header: a merge fails on a file without.
            unfinished = path.with_suffix(".new")
            MmapedDict(str(unfinished)).close()
            unfinished.rename(path)
        super().__init__(str(path))  # type: ignore[no-untyped-call]

    def places(self, keys: Sequence[str]) -> Places:
        for key in keys:
            self.read_value(key)  # type: ignore[no-untyped-call]  # makes the value where missing
        # A file that grows is mapped anew; earlier views stay maps of the same pages.
        return memoryview(self._m).cast("d"), [self._positions[key] // 8 for key in keys]

    def close(self) -> None:
        self._f.close()  # not the map: views of it are still held


def merged(folder: Path) -> Iterable[Metric]:
    """Counts of all workers, living and dead, and gauges of the living."""
    for path in folder.glob("slot_*.lock"):
        with path.open("ab") as lock:
            if _locked(lock):
                _drop_gauges(folder, int(path.stem.removeprefix("slot_")))
    metrics: Iterable[Metric] = MultiProcessCollector(None, str(folder)).collect()
    return metrics


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_gauges(folder: Path, slot: int) -> None:
    for path in folder.glob(f"gauge_*_{slot}.db"):
        path.unlink(missing_ok=True)
