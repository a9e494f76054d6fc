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
    """Who scores: processes of this machine, or a Ray cluster."""

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
    "--model", metavar="NAME[/VERSION]", help="without it 'digits' if present, else the only one"
)
@models_option
@click.option(
    "--url",
    help="address of a running server, which scores; LOGITSERVE_API_KEY is its key. Needs pip "
    "install 'logitserve[client]'",
)
@click.option(
    "--top-k", type=click.IntRange(min=1), help="only the most probable classes, in their order"
)
@click.option("--recursive", "-r", is_flag=True, help="look into the folders of a folder too")
@click.option(
    "--format",
    "kind",
    type=OneOf(Format),
    default=Format.TABLE.value,
    show_default=True,
    help="how the rows are written; parquet needs pip install 'logitserve[parquet]'",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="file to write; it appears when it is whole. Without it, standard output",
)
@click.option(
    "--partitioned",
    is_flag=True,
    help="write --output as a folder of Parquet files, and go on there if it was begun",
)
@click.option(
    "--engine",
    type=OneOf(Engine),
    default=Engine.LOCAL.value,
    show_default=True,
    help="who scores; ray needs pip install 'logitserve[ray]', and is always --partitioned",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    envvar="RAY_ADDRESS",
    help="Ray cluster to join, or 'auto'; without it, --engine ray starts one on this machine",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="processes or Ray actors of a partitioned run; without it, one a CPU",
)
@click.option(
    "--part-size",
    type=click.IntRange(min=1),
    default=PART_SIZE,
    show_default=True,
    help="pictures of a Parquet file; a tar file makes one, whatever is in it",
)
@click.option("--image-column", metavar="NAME", help="of Parquet sources: the encoded pictures")
@click.option("--name-column", metavar="NAME", help="of Parquet sources: the pictures' names")
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

    With --url a server scores them, and the rows are the same.

    SOURCES are pictures, tar files and Parquet files of them, folders of either, or - for one
    picture on standard input. Rows come in their order, those of a folder by name. A picture that
    cannot be used is a row with its error.
    """
    partitioned = partitioned or engine is Engine.RAY
    _check_usage(ctx, paths, output, partitioned=partitioned)
    names = [name for path in paths for name in _names(path, recursive=recursive)]
    found = units(names, part_size=part_size, image_column=image_column, name_column=name_column)
    if partitioned:
        file = model_file(models, model)
        assert output is not None  # noqa: S101 - it was checked
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
            raise click.UsageError(f"{option} is for a partitioned run: add --partitioned")
        if output is not None and output.is_dir():
            raise click.UsageError(f"{output} is a folder; a folder is written with --partitioned")
        if ctx.params["kind"] == Format.PARQUET and output is None:
            raise click.UsageError("parquet is not for reading: say where to with --output FILE")
    if "url" in given and (partitioned or "models" in given):
        what = "--models" if "models" in given else "--partitioned and --engine ray"
        raise click.UsageError(f"{what} is for scoring here, and --url for scoring by a server")
    if "address" in given and ctx.params["engine"] != Engine.RAY:
        raise click.UsageError("--address is for a Ray cluster: add --engine ray")


def _check_folder(output: Path | None, paths: tuple[str, ...], *, kind: Format | None) -> None:
    if output is None:
        raise click.UsageError("say which folder the parts go into with --output FOLDER")
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} is a file; a partitioned run writes into a folder")
    if kind not in {None, Format.PARQUET}:
        raise click.UsageError(f"a partitioned run writes parquet, not {kind}")
    if STDIN in paths:
        raise click.UsageError("a partitioned run reads files, not standard input")


def _names(path: str, *, recursive: bool) -> Iterator[str]:
    """The files that an argument names."""
    if not Path(path).is_dir():
        yield path
        return
    hint = "" if recursive else "; --recursive looks into its folders too"
    folder = Path(path)
    yield from map(str, in_folder(folder, recursive=recursive, hint=hint, shards=SHARD_SUFFIXES))


@contextmanager
def _here(models: Path, model: str | None, top_k: int | None) -> Iterator[tuple[Labeled, Scoring]]:
    """A model of the folder, and how it scores."""
    predictor = Predictor.load(model_file(models, model), threads=available_cpus())
    yield predictor.card, partial(score, predictor, top_k=top_k)


@contextmanager
def _by_server(url: str, model: str | None, top_k: int | None) -> Iterator[tuple[Labeled, Scoring]]:
    """A model that a server has, and how it scores."""
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
    """Write rows to one file or standard output; how many, and how many of them are errors."""
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
    """Standard output, or a file that appears when it is whole."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    is_device = output.exists() and not output.is_file()  # or a pipe: nothing to put in its place
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
    """A bar, unless rows are moving by on the terminal already.

    How many pictures tar files have, only their end tells; then there is a number beside the bar.
    """
    unknown: Iterable[None] | None = chain() if total is None else None
    with _bar(iterable=unknown, length=total, is_shown=is_moving) as bar:
        yield bar.update


@contextmanager
def _parts_progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """A bar of parts, with the number of pictures."""
    with _bar(length=total, item_show_func=lambda one: one and f"{one.rows} pictures") as bar:
        yield lambda tally: bar.update(tally.parts - bar.pos, tally)


def _bar(*, is_shown: bool = True, **options: Any) -> Any:
    """A bar on standard error, if that is a terminal."""
    hidden = not (is_shown and sys.stderr.isatty())
    return click.progressbar(
        label="scoring", file=sys.stderr, hidden=hidden, show_pos=True, **options
    )


def _say(text: str) -> None:
    click.echo(text, err=True)
