"""All of it: sources into a folder of parts, by whichever engine, going on where it stopped."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from logitserve.bulk import local, ray_tasks
from logitserve.bulk.folder import Manifest, PartFolder
from logitserve.bulk.scorer import Job, Part, load
from logitserve.bulk.sources import Unit
from logitserve.inference.runtime import available_cpus
from logitserve.rows import Origin


class Engine(StrEnum):
    """Who scores: processes of this machine, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class Workers:
    """Who scores, and how many."""

    engine: Engine
    count: int | None
    """None: as many as there are CPUs."""
    address: str | None = None
    """Of a Ray cluster to join."""


class Tally(NamedTuple):
    """How far it is."""

    parts: int
    rows: int
    failed: int


def score_into(
    output: Path,
    model: Path,
    units: Sequence[Unit],
    workers: Workers,
    *,
    top_k: int | None,
    part_size: int,
    moved: Callable[[Tally], None],
    notice: Callable[[str], None],
) -> Tally:
    """Score units into a folder of parts, in their order; those that are there already stay.

    Args:
        output: the folder.
        model: the model file.
        units: cut by `part_size`.
        workers: who scores.
        top_k: how many probabilities a row has, highest first; None for all.
        part_size: pictures of a unit.
        moved: is told of what was there, and then of each part.
        notice: is told what a person should know.

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
            with closing(_parts(workers, Job(content, top_k), missing, notice)) as parts:
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


def _parts(
    workers: Workers,
    job: Job,
    units: Sequence[tuple[int, Unit]],
    notice: Callable[[str], None],
) -> Generator[tuple[int, Part], None, None]:
    if workers.engine is Engine.RAY:
        return ray_tasks.score_units(
            job, units, address=workers.address, workers=workers.count, notice=notice
        )
    processes = min(workers.count or available_cpus(), len(units))
    return local.score_units(job, units, workers=processes)
