"""`logitserve evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from logitserve.cli.options import data_option, model_file, models_option, training_errors
from logitserve.inference.predictor import Predictor

if TYPE_CHECKING:
    from logitserve_training.datasets.dataset import LabeledImages


@click.command(
    "evaluate",
    epilog="""\b
    Examples:
      logitserve evaluate digits
      logitserve evaluate digits-mlp/1 --data mnist
      logitserve evaluate mine --data more-pictures --robustness

    A model of the recipe `folder` is measured on the test part of the folder that it was trained
    on, or on all pictures of another folder with the same labels.""",
)
@click.argument("model", metavar="MODEL[/VERSION]")
@data_option
@models_option
@click.option(
    "--robustness",
    is_flag=True,
    help="Also measure on corrupted pictures: noise, blur, fog, lines and so on.",
)
def command(model: str, data: Path | None, models: Path, *, robustness: bool) -> None:
    """Measure a published MODEL on pictures it was not trained on.

    Accuracy as a fraction, negative log-likelihood in nats, Brier score from 0 to 2, expected
    calibration error as a fraction, then F1 and average precision of each label, each with its
    95 % confidence interval. Runs the published file, without TensorFlow.
    """
    path = model_file(models, model)
    with training_errors():
        from logitserve_training.evaluate import evaluate, held_out
        from logitserve_training.progress import Reporter

        predictor = Predictor.load(path)
        pictures = held_out(predictor, data, Reporter())
        evaluation = evaluate(predictor, pictures)
    click.echo(f"{path}: {len(evaluation.classes)} pictures")
    for metric, value in evaluation.metrics.items():
        low, high = evaluation.intervals[metric]
        click.echo(f"  {metric}: {value:.4f} ({low:.4f} to {high:.4f})")
    for label, scores in zip(predictor.card.labels, evaluation.by_label, strict=True):
        found = f"F1 {scores.f1}, average precision {scores.average_precision}, "
        click.echo(f"  {label}: {found if scores.support else ''}in {scores.support} pictures")
    if robustness:
        _robustness(predictor, pictures)


def _robustness(predictor: Predictor, pictures: "LabeledImages") -> None:
    from logitserve_training import robustness

    rows = robustness.measure(predictor, pictures)
    click.echo(f"disturbed, {rows[0].pictures} pictures of each kind:")
    for row in rows:
        text = f"  {row.kind}: accuracy {row.accuracy:.3f} ({row.low:.3f} to {row.high:.3f})"
        text += f", ece {row.ece:.3f}"
        if row.unknown is not None:
            text += f", unknown {row.unknown:.3f}"
        if row.covered is not None:
            text += f", sets of 90 % hold {row.covered:.3f} with {row.set_size:.2f} labels"
        click.echo(text + ("" if row.group != "training" else " [a family of the recipe digits]"))
    for name, mean, worst, ece, kinds in robustness.means(rows):
        click.echo(f"{name}, {kinds} kinds: mean {mean:.3f}, worst {worst:.3f}, ece {ece:.3f}")
