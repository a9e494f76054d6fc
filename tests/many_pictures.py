"""Sources of many different pictures, and what the linear model's own sums say of each row."""

import errno
import io
import os
import select
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

from tests import tiny_models
from tests.tiny_models import linear_logits, png, random_picture

WAIT_SECONDS = 60


def tar(path: Path, seeds: range, mode: Any = "w") -> None:
    """Pictures as WebDataset has them: `<seed>.png`, each with a label beside it."""
    with tarfile.open(path, mode) as archive:
        for seed in seeds:
            for name, content in (
                (f"{seed}.png", png(random_picture(seed))),
                (f"{seed}.cls", b"7"),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def parquet_file(path: Path, seeds: range, *, rows: int = 20) -> None:
    """Pictures in a column of bytes, with names, a few in a row group."""
    contents = [png(random_picture(seed)) for seed in seeds]
    names = [f"row-{seed}.png" for seed in seeds]
    parquet.write_table(pa.table({"name": names, "content": contents}), path, row_group_size=rows)


def files(folder: Path, seeds: range) -> None:
    folder.mkdir()
    for seed in seeds:
        (folder / f"{seed}.png").write_bytes(png(random_picture(seed)))


def seed_of(name: str) -> int:
    return int(Path(name).stem.removeprefix("row-"))


def read(folder: Path) -> list[dict[str, Any]]:
    """All rows, as a reader of Parquet folders finds them."""
    rows: list[dict[str, Any]] = dataset.dataset(folder).to_table().to_pylist()
    return rows


def assert_each_once(rows: list[dict[str, Any]], seeds: range) -> None:
    """Each picture has one row, and it is that picture's own."""
    assert sorted(seed_of(row["file"]) for row in rows) == list(seeds)
    matrix = tiny_models.weights(tiny_models.SPEC, 10, seed=0)
    logits = linear_logits(np.stack([random_picture(seed_of(row["file"])) for row in rows]), matrix)
    exponentials = np.exp(logits)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = np.array([[value for _, value in row["probabilities"]] for row in rows])
    assert found == pytest.approx(expected, abs=1e-5)
    assert [row["argmax"] for row in rows] == expected.argmax(axis=1).tolist()


def wait_for(path: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        assert time.monotonic() < until, f"there is no {path}"
        time.sleep(0.02)


def wait_until_one_is_unread(held: "list[Held]") -> None:
    """Until one of those who read has gone; it does not close what it watches."""
    poll = select.poll()
    for picture in held:
        poll.register(picture.descriptor, 0)
    assert poll.poll(1000 * WAIT_SECONDS), "all are still read"


class Held:
    """A picture that keeps who reads it waiting: a named pipe."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self._seed = path, seed
        os.mkfifo(path)
        self._descriptor: int | None = None

    def wait_for_reader(self) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not self._is_open():
            assert time.monotonic() < until, f"nobody reads {self.path}"
            time.sleep(0.02)

    @property
    def descriptor(self) -> int:
        assert self._descriptor is not None
        return self._descriptor

    def wait_until_unread(self) -> None:
        """Until the reader that was waited for has gone."""
        assert self._descriptor is not None
        poll = select.poll()
        poll.register(self._descriptor, 0)  # errors are always told, and no reader is one
        assert poll.poll(1000 * WAIT_SECONDS), f"somebody still reads {self.path}"
        self._close()

    def _is_open(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no reader yet
                return False
            raise
        self._close()
        self._descriptor = descriptor
        return True

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def release(self) -> bool:
        """Hand the picture over; False if its reader has gone."""
        assert self._descriptor is not None
        try:
            os.write(self._descriptor, png(random_picture(self._seed)))
        except BrokenPipeError:
            return False
        finally:
            self._close()
        return True
