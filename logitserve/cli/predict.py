"""`logitserve predict`."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import click

from logitserve.bulk import local, ray_tasks
from logitserve.bulk.run import Tally, score_into
from logitserve.bulk.sources import PART_SIZE, SHARD_SUFFIXES, STDIN, Unit, units
from logitserve.cli.options import OneOf, connected, in_folder, model_file, models_option
from logitserve.errors import OutputError
from logitserve.inference.predictor import Predictor
from logitserve.inference.runtime import available_cpus
from logitserve.rows import Format, Labeled, writer
from logitserve.scoring import CHUNK, Picture, Row, score, shown


class Engine(StrEnum):
    """Where pictures are scored: processes on this machine, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


Scoring = Callable[[Iterable[Picture]], Iterator[Row]]


@click.command(
    "predict",
    epilog="""\b
    Examples:
      logitserve predict three.png
      logitserve predict scans --recursive --format csv --output scans.csv
      logitserve predict *.jpg --model zero/1 --top-k 2 --format json
      cat three.png | logitserve predict - --format json
      logitserve predict scans --url http://localhost:8000 --format csv --output scans.csv
      logitserve predict shards/*.tar --partitioned --output scores
      logitserve predict shards/*.tar --engine ray --address head:6379 --output scores

    The exit status is 0 if every picture was scored, 1 if one could not be, 2 for wrong usage.
    Millions of pictures, clusters, columns: docs/scoring.md.""",
)
@click.argument("paths", metavar="SOURCES", nargs=-1, required=True)
@click.option(
    "--model", metavar="NAME[/VERSION]", help="default: 'digits' if present, else the only model"
)
@models_option
@click.option(
    "--url",
    help="URL of a running server that scores; LOGITSERVE_API_KEY is its key. Needs pip install "
    "'logitserve[client]'",
)
@click.option(
    "--top-k", type=click.IntRange(min=1), help="only the k most probable classes, best first"
)
@click.option("--recursive", "-r", is_flag=True, help="include subfolders")
@click.option(
    "--format",
    "kind",
    type=OneOf(Format),
    default=Format.TABLE.value,
    show_default=True,
    help="output format; parquet needs pip install 'logitserve[parquet]'",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="output file, renamed into place when it is complete; default: standard output",
)
@click.option(
    "--partitioned",
    is_flag=True,
    help="write --output as a folder of Parquet files, and resume an interrupted run",
)
@click.option(
    "--engine",
    type=OneOf(Engine),
    default=Engine.LOCAL.value,
    show_default=True,
    help="where pictures are scored; ray needs pip install 'logitserve[ray]', and --partitioned",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    envvar="RAY_ADDRESS",
    help="Ray cluster to join, or 'auto'; default: --engine ray starts one on this machine",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="processes or Ray tasks of a partitioned run; default: one per CPU",
)
@click.option(
    "--part-size",
    type=click.IntRange(min=1),
    default=PART_SIZE,
    show_default=True,
    help="pictures per Parquet file; a tar file always makes one",
)
@click.option("--image-column", metavar="NAME", help="Parquet sources: column of encoded pictures")
@click.option("--name-column", metavar="NAME", help="Parquet sources: column of picture names")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: str | None,
    models: Path,
    top_k: int | None,
    *,
    url: str | None,
    recursive: bool,
    kind: Format,
    output: Path | None,
    partitioned: bool,
    engine: Engine,
    address: str | None,
    workers: int | None,
    part_size: int,
    image_column: str | None,
    name_column: str | None,
) -> None:
    """Score pictures offline, without a server.

    With --url a server scores them; the rows are the same.

    SOURCES are pictures, tar or Parquet files of pictures, folders of either, or - for one picture
    on standard input. Rows are in the order of the sources; a folder is sorted by name. A picture
    that cannot be decoded becomes a row with its error.
    """
    partitioned = partitioned or engine is Engine.RAY
    _check_usage(ctx, paths, output, partitioned=partitioned)
    names = [name for path in paths for name in _names(path, recursive=recursive)]
    found = units(names, part_size=part_size, image_column=image_column, name_column=name_column)
    if partitioned:
        file = model_file(models, model)
        assert output is not None  # noqa: S101 - checked by `_check_usage`
        by = partial(local.score_units, workers=workers)
        if engine is Engine.RAY:
            by = partial(ray_tasks.score_units, address=address, workers=workers, notice=_say)
        with _parts_progress(len(found)) as moved:
            tally = score_into(
                output, file, found, by, top_k=top_k, part_size=part_size, moved=moved
            )
        total, failed = tally.rows, tally.failed
        _say(f"{total} pictures in {tally.parts} parts in {output}")
    else:
        scoring = _here(models, model, top_k) if url is None else _by_server(url, model, top_k)
        with scoring as (card, rows_of):
            total, failed = _score_as_one(
                found, card, rows_of, kind=kind, output=output, top_k=top_k
            )
    if failed:
        _say(f"{failed} of {total} pictures could not be scored")
        ctx.exit(1)


def _check_usage(
    ctx: click.Context, paths: tuple[str, ...], output: Path | None, *, partitioned: bool
) -> None:
    given = {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if partitioned:
        _check_folder(output, paths, kind=ctx.params["kind"] if "kind" in given else None)
    else:
        for name in given & {"workers", "part_size"}:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} applies to a partitioned run: add --partitioned")
        if output is not None and output.is_dir():
            raise click.UsageError(f"{output} is a folder; add --partitioned to write a folder")
        if ctx.params["kind"] == Format.PARQUET and output is None:
            raise click.UsageError("parquet is a binary format: give a file with --output FILE")
    if "url" in given and (partitioned or "models" in given):
        what = "--models" if "models" in given else "--partitioned and --engine ray"
        raise click.UsageError(f"{what} applies to local scoring, and --url to a server: omit one")
    if "address" in given and ctx.params["engine"] != Engine.RAY:
        raise click.UsageError("--address applies to a Ray cluster: add --engine ray")


def _check_folder(output: Path | None, paths: tuple[str, ...], *, kind: Format | None) -> None:
    if output is None:
        raise click.UsageError("a partitioned run needs an output folder: --output FOLDER")
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} is a file; a partitioned run needs a folder")
    if kind not in {None, Format.PARQUET}:
        raise click.UsageError(f"a partitioned run writes parquet, not {kind}")
    if STDIN in paths:
        raise click.UsageError("a partitioned run reads files, not standard input")


def _names(path: str, *, recursive: bool) -> Iterator[str]:
    """Yield the files of an argument."""
    if not Path(path).is_dir():
        yield path
        return
    hint = "" if recursive else "; --recursive includes subfolders"
    folder = Path(path)
    yield from map(str, in_folder(folder, recursive=recursive, hint=hint, shards=SHARD_SUFFIXES))


@contextmanager
def _here(models: Path, model: str | None, top_k: int | None) -> Iterator[tuple[Labeled, Scoring]]:
    """Return a model of the folder, and its scoring function."""
    predictor = Predictor.load(model_file(models, model), threads=available_cpus())
    yield predictor.card, partial(score, predictor, top_k=top_k)


@contextmanager
def _by_server(url: str, model: str | None, top_k: int | None) -> Iterator[tuple[Labeled, Scoring]]:
    """Return a model of the server, and its scoring function."""
    name, _, version = (model or "").partition("/")
    with connected(url) as client:
        from logitserve.client import scoring as remote
        from logitserve.client.steps import Asked

        if not name:
            name = next(each.name for each in client.models() if each.is_default)
        card = client.model(name, version or None)
        asked = Asked(model=name, version=version or None, top_k=top_k)
        yield card, lambda pictures: remote.score(client, pictures, asked)


def _score_as_one(
    found: list[Unit],
    card: Labeled,
    rows_of: Scoring,
    *,
    kind: Format,
    output: Path | None,
    top_k: int | None,
) -> tuple[int, int]:
    """Write rows to one file or standard output; return the number of rows and of errors."""
    rows = rows_of(chain.from_iterable(unit.pictures() for unit in found))
    names = [shown(name) for unit in found for name in unit.names]
    counts = [unit.count for unit in found]
    expected = None if None in counts else sum(count or 0 for count in counts)
    total = failed = 0
    with (
        _opened(output) as out,
        writer(kind, out, card, names=names, top_k=top_k) as write,
        _progress(expected, is_moving=output is not None or not sys.stdout.isatty()) as moved,
    ):
        while chunk := list(islice(rows, CHUNK)):
            write(chunk)
            total += len(chunk)
            failed += sum(row.error is not None for row in chunk)
            moved(len(chunk))
    return total, failed


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that is renamed into place when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    is_device = output.exists() and not output.is_file()  # or a pipe, which cannot be replaced
    draft = output if is_device else output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        if not is_device:
            draft.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error
    finally:
        if not is_device:
            draft.unlink(missing_ok=True)


@contextmanager
def _progress(total: int | None, *, is_moving: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, unless rows are printed on the terminal.

    The number of pictures in a tar file is unknown until its end; then only a count is shown.
    """
    unknown: Iterable[None] | None = chain() if total is None else None
    with _bar(iterable=unknown, length=total, is_shown=is_moving) as bar:
        yield bar.update


@contextmanager
def _parts_progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """Show a progress bar of parts, with the number of pictures."""
    with _bar(length=total, item_show_func=lambda one: one and f"{one.rows} pictures") as bar:
        yield lambda tally: bar.update(tally.parts - bar.pos, tally)


def _bar(*, is_shown: bool = True, **options: Any) -> Any:
    """Return a progress bar on standard error, if that is a terminal."""
    hidden = not (is_shown and sys.stderr.isatty())
    return click.progressbar(
        label="scoring", file=sys.stderr, hidden=hidden, show_pos=True, **options
    )


def _say(text: str) -> None:
    click.echo(text, err=True)
