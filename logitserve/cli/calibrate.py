"""`logitserve calibrate`."""

from pathlib import Path

import click

from logitserve.cli.options import data_option, models_option, training_errors


@click.command(
    "calibrate",
    epilog="""\b
    Examples:
      logitserve calibrate digits
      logitserve calibrate digits --data mnist --in-place""",
)
@click.argument("name")
@data_option
@models_option
@click.option(
    "--in-place", is_flag=True, help="replace the latest version; only while no service uses it"
)
def command(name: str, data: Path | None, models: Path, *, in_place: bool) -> None:
    """Calibrate and measure a model again, without training.

    The latest version of the model NAME is published as the next one, with a new report.
    Its figures are printed, with their 95 % confidence intervals.
    """
    with training_errors():
        from logitserve_training.recalibrate import recalibrate

        card = recalibrate(name, data=data, models=models, in_place=in_place)
    click.echo(f"published {card.name} version {card.version}")
    for metric, value in card.metrics.items():
        interval = (
            "({:.4f} to {:.4f})".format(*found) if (found := card.intervals.get(metric)) else ""
        )
        click.echo(f"  {metric}: {value:.4f} {interval}".rstrip())
