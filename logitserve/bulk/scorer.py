"""Score a unit of pictures into a part, the bytes of a Parquet file. Runs in every engine."""

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

from logitserve.bulk.sources import Unit
from logitserve.inference.predictor import Predictor
from logitserve.rows import Format, Origin, writer
from logitserve.scoring import Picture, score

ROW_GROUP: Final = 8192
"""Rows in memory before they are written."""


@dataclass(frozen=True, slots=True)
class Job:
    """Model and options for all units. Can be pickled; workers need no file of the model."""

    model: bytes
    top_k: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """The scores of a unit, as a Parquet file."""

    data: bytes
    rows: int
    failed: int
    """Number of rows with an error."""


class StoppedError(Exception):
    """The scorer was told to stop; no part was made."""


def score_unit(job: Job, unit: Unit, is_stopped: Callable[[], bool] = bool) -> Part:
    """Score the pictures of a unit; the model of the last job is cached.

    Raises:
        SourceError: the source does not exist on this machine.
        StoppedError: `is_stopped`, called between pictures, returned True.
    """
    predictor, out = load(job.model), io.BytesIO()
    rows = score(predictor, _until(is_stopped, unit.pictures()), top_k=job.top_k)
    count = failed = 0
    with writer(
        Format.PARQUET,
        out,
        predictor.card,
        names=(),
        top_k=job.top_k,
        origin=Origin.of(predictor),
    ) as write:
        while group := list(islice(rows, ROW_GROUP)):
            write(group)
            count += len(group)
            failed += sum(row.error is not None for row in group)
    return Part(out.getvalue(), count, failed)


@lru_cache(maxsize=1)
def load(model: bytes) -> Predictor:
    """Load a predictor with one thread from the bytes of a model file.

    Raises:
        ModelFileError: see `Predictor.load`.
    """
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model)
        file.flush()
        return Predictor.load(Path(file.name))


def _until(is_stopped: Callable[[], bool], pictures: Iterable[Picture]) -> Iterator[Picture]:
    for picture in pictures:
        if is_stopped():
            raise StoppedError
        yield picture
