"""`logitserve evaluate`."""

from pathlib import Path

import click

from logitserve.cli.options import data_option, models_option, training_errors
from logitserve.inference.predictor import Predictor
from logitserve.published import find


@click.command(
    "evaluate",
    epilog="""\b
    Examples:
      logitserve evaluate digits
      logitserve evaluate digits-mlp/1 --data mnist
      logitserve evaluate mine --data more-pictures

    A model of the recipe `folder` is measured on the test part of the folder that it was trained
    on, or on all of another one with the same labels.""",
)
@click.argument("model", metavar="MODEL[/VERSION]")
@data_option
@models_option
def command(model: str, data: Path | None, models: Path) -> None:
    """Measure a published MODEL on pictures it was not trained on.

    Accuracy as a fraction, negative log-likelihood in nats, Brier score from 0 to 2, expected
    calibration error as a fraction, then F1 and average precision of each label, each with its
    95 % confidence interval. Runs the published file itself, without TensorFlow.
    """
    path = find(models, model)
    with training_errors():
        from logitserve_training.evaluate import evaluate_file
        from logitserve_training.progress import Reporter

        evaluation = evaluate_file(path, data, Reporter())
    click.echo(f"{path}: {len(evaluation.classes)} pictures")
    for metric, value in evaluation.metrics.items():
        low, high = evaluation.intervals[metric]
        click.echo(f"  {metric}: {value:.4f} ({low:.4f} to {high:.4f})")
    labels = Predictor.load(path).card.labels
    for label, scores in zip(labels, evaluation.by_label, strict=True):
        found = f"F1 {scores.f1}, average precision {scores.average_precision}, "
        click.echo(f"  {label}: {found if scores.support else ''}in {scores.support} pictures")
