"""`logitserve predict`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Final

import click

from inference.predictor import Predictor
from inference.runtime import available_cpus
from logitserve.commands.options import models_option
from logitserve.commands.pictures import in_folder
from logitserve.errors import OutputError
from logitserve.published import find
from logitserve.rows import Format, writer
from logitserve.scoring import CHUNK, Picture, score

STDIN: Final = "-"


@click.command(
    "predict",
    epilog="""\b
    Examples:
      logitserve predict three.png
      logitserve predict scans --recursive --format csv --output scans.csv
      logitserve predict *.jpg --model zero/1 --top-k 2 --format json
      cat three.png | logitserve predict - --format json

    The exit status is 0 if every picture was scored, 1 if one could not be, 2 for wrong usage.""",
)
@click.argument("paths", metavar="FILES", nargs=-1, required=True)
@click.option(
    "--model", metavar="NAME[/VERSION]", help="without it 'digits' if present, else the only one"
)
@models_option
@click.option(
    "--top-k", type=click.IntRange(min=1), help="only the most probable classes, in their order"
)
@click.option("--recursive", "-r", is_flag=True, help="look into the folders of a folder too")
@click.option(
    "--format",
    "kind",
    type=click.Choice([kind.value for kind in Format]),
    default=Format.TABLE.value,
    show_default=True,
    help="how the rows are written; parquet needs pip install 'logitserve[parquet]'",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="file to write; it appears when it is whole. Without it, standard output",
)
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    model: str | None,
    models: Path,
    top_k: int | None,
    *,
    recursive: bool,
    kind: str,
    output: Path | None,
) -> None:
    """Score pictures offline, without a server.

    FILES are pictures, folders of them, or - for one on standard input. Rows come in their order, a
    folder's pictures by name. A picture that cannot be
    used is a row with its error.
    """
    if kind == Format.PARQUET and output is None:
        raise click.UsageError("parquet is not for reading: say where to with --output FILE")
    pictures = [picture for path in paths for picture in _pictures(path, recursive=recursive)]
    predictor = Predictor.load(find(models, model), threads=available_cpus())
    names = [picture.name for picture in pictures]
    rows = score(predictor, pictures, top_k=top_k)
    failed = 0
    with (
        _opened(output) as out,
        writer(Format(kind), out, predictor.card, names=names, top_k=top_k) as write,
        _progress(len(pictures), is_moving=output is not None or not sys.stdout.isatty()) as moved,
    ):
        while chunk := list(islice(rows, CHUNK)):
            write(chunk)
            failed += sum(row.error is not None for row in chunk)
            moved(len(chunk))
    if failed:
        click.echo(f"{failed} of {len(pictures)} pictures could not be scored", err=True)
        ctx.exit(1)


def _pictures(path: str, *, recursive: bool) -> Iterator[Picture]:
    """The pictures that an argument names."""
    if path == STDIN:
        yield Picture(STDIN, sys.stdin.buffer.read)
    elif Path(path).is_dir():
        hint = "" if recursive else "; --recursive looks into its folders too"
        files = in_folder(Path(path), recursive=recursive, hint=hint)
        yield from (Picture(click.format_filename(file), file.read_bytes) for file in files)
    else:
        yield Picture(click.format_filename(path), Path(path).read_bytes)


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
def _progress(total: int, *, is_moving: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal and no rows are moving by on it already."""
    hidden = not (is_moving and sys.stderr.isatty())
    with click.progressbar(
        length=total, label="scoring", file=sys.stderr, hidden=hidden, show_pos=True
    ) as bar:
        yield bar.update
