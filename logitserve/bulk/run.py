"""Score sources into a folder of part files with either engine, and resume an interrupted run."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from logitserve.bulk.folder import Manifest, PartFolder
from logitserve.bulk.scorer import Job, Part, load
from logitserve.bulk.sources import Unit
from logitserve.rows import Origin

Engine = Callable[[Job, Sequence[tuple[int, Unit]]], Generator[tuple[int, Part], None, None]]
"""Scores numbered units; yields parts in the order of completion."""


class Tally(NamedTuple):
    """Progress of a run."""

    parts: int
    rows: int
    failed: int


def score_into(
    output: Path,
    model: Path,
    units: Sequence[Unit],
    engine: Engine,
    *,
    top_k: int | None,
    part_size: int,
    moved: Callable[[Tally], None],
) -> Tally:
    """Score units into a folder of parts, in their order; existing parts are kept.

    Args:
        output: the output folder.
        model: the model file.
        units: cut by `part_size`.
        engine: scores the units.
        top_k: number of probabilities per row, highest first; None for all.
        part_size: pictures per unit.
        moved: called with the progress at the start and after each part.

    Raises:
        ModelFileError: the model cannot be used.
        OutputError: the folder cannot be used.
        EngineError: the engine cannot start, or died.
        SourceError: a source no longer exists.
    """
    content = model.read_bytes()
    origin = Origin.of(load(content))
    manifest = Manifest(
        **origin._asdict(),
        top_k=top_k,
        part_size=part_size,
        parts=len(units),
        sources=_digest(units),
    )
    with PartFolder.opened(output, manifest) as folder:
        done = folder.done()
        tally = Tally(
            len(done), sum(rows for rows, _ in done.values()), sum(bad for _, bad in done.values())
        )
        moved(tally)
        missing = [(number, unit) for number, unit in enumerate(units) if number not in done]
        if missing:
            with closing(engine(Job(content, top_k), missing)) as parts:
                for number, part in parts:
                    folder.save(number, part)
                    tally = Tally(
                        tally.parts + 1, tally.rows + part.rows, tally.failed + part.failed
                    )
                    moved(tally)
        folder.finish()
    return tally


def _digest(units: Sequence[Unit]) -> str:
    digest = hashlib.sha256()
    for unit in units:
        for line in unit.listing():
            digest.update(line.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
