"""All of it: sources into a folder of parts, by whichever engine, going on where it stopped."""

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
"""Scores numbered units somewhere; parts come as they are done."""


class Tally(NamedTuple):
    """How far it is."""

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
    """Score units into a folder of parts, in their order; those that are there already stay.

    Args:
        output: the folder.
        model: the model file.
        units: cut by `part_size`.
        engine: what scores.
        top_k: how many probabilities a row has, highest first; None for all.
        part_size: pictures of a unit.
        moved: is told of what was there, and then of each part.

    Raises:
        ModelFileError: the model cannot be used.
        OutputError: the folder cannot be used.
        EngineError: what scores cannot start, or does not live.
        SourceError: a source is not found any more.
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
