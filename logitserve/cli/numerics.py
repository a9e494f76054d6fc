"""`logitserve numerics`."""

from pathlib import Path

import click

from logitserve.cli.options import data_option, training_errors


@click.command(
    "numerics",
    epilog="""\b
    Examples:
      logitserve numerics
      logitserve numerics --quick --output look""",
)
@data_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="folder for numerics.md and, in numerics/, its plots and numbers",
)
@click.option(
    "--quick",
    is_flag=True,
    help="one minute instead of seven: drawn digits, no download",
)
def command(*, data: Path | None, output: Path, quick: bool) -> None:
    """Repeat the numerical experiments on losses and training, and write their page.

    Trains 251 small networks on MNIST, which takes about seven minutes on a CPU.
    """
    with training_errors():
        from logitserve_training.numerics.run import run

        page = run(output=output, folder=data, quick=quick)
    click.echo(f"wrote {page}")
