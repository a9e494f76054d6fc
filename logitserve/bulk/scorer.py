"""A unit of pictures → a part: the bytes of a Parquet file. What every engine runs."""

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
"""Rows that are in memory before they are written."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to each unit. Can be pickled, and needs no file on the machine that does it."""

    model: bytes
    top_k: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """The scores of a unit: a Parquet file."""

    data: bytes
    rows: int
    failed: int
    """Rows that are an error."""


class StoppedError(Exception):
    """The scorer was told to stop; there is no part."""


def score_unit(job: Job, unit: Unit, is_stopped: Callable[[], bool] = bool) -> Part:
    """Score the pictures of a unit; the model of the last job stays loaded.

    Raises:
        SourceError: this machine does not find the source.
        StoppedError: `is_stopped`, asked between pictures, said so.
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
    """A predictor of one thread, from the bytes of a model file.

    Raises:
        ModelFileError: as `Predictor.load`.
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
