"""`logitserve models compare`."""

import json
from pathlib import Path

import click

from logitserve.cli.options import (
    data_option,
    json_option,
    model_file,
    models_option,
    training_errors,
)
from logitserve.inference.predictor import Predictor


@click.command(
    "compare",
    epilog="""\b
    Example:
      logitserve models compare digits/1 digits/2 --data mnist \\
        && logitserve models promote digits 2""",
)
@click.argument("first", metavar="MODEL[/VERSION]")
@click.argument("second", metavar="MODEL[/VERSION]")
@data_option
@models_option
@json_option
@click.pass_context
def compare(
    ctx: click.Context, first: str, second: str, data: Path | None, models: Path, *, as_json: bool
) -> None:
    """Test whether the second model has more right answers than the first on the same pictures.

    The test is McNemar's exact test on the pictures that `logitserve evaluate` uses for the second.
    The exit status is 1 unless the second is better. If there are too few pictures, the number that
    would suffice is printed.
    """
    paths = [model_file(models, name) for name in (first, second)]
    predictors = [Predictor.load(path) for path in paths]
    cards = [predictor.card for predictor in predictors]
    with training_errors():
        from logitserve_training.errors import OptionError
        from logitserve_training.evaluate import evaluate, held_out
        from logitserve_training.progress import Reporter
        from logitserve_training.statistics.intervals import Paired

        if len({(card.labels, card.input.shape) for card in cards}) > 1:
            raise OptionError(f"{first} and {second} differ in their labels or their input shape")
        pictures = held_out(predictors[1], data, Reporter())
        right = [evaluate(predictor, pictures).is_right for predictor in predictors]
        paired = Paired.of(right[1], right[0])
    if as_json:
        document = {
            "pictures": paired.pictures,
            "accuracy": [float(each.mean()) for each in right],
            "only_first_right": paired.only_second,
            "only_second_right": paired.only_first,
            "p": paired.p,
            "second_is": paired.verdict,
            "pictures_needed": paired.pictures_needed,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        for name, each in zip((first, second), right, strict=True):
            click.echo(f"{name}: {each.mean():.4f} of {len(each)} pictures right")
        differing = (
            f"only {second} has {paired.only_first} right, only {first} {paired.only_second}"
        )
        click.echo(f"{differing} (p {paired.p:.2g}, McNemar's exact test)")
        told = paired.verdict != "cannot tell"
        needed = paired.pictures_needed
        click.echo(f"{second} is {paired.verdict}" if told else _cannot_tell(needed))
    if paired.verdict != "better":
        ctx.exit(1)


def _cannot_tell(needed: int | None) -> str:
    if needed is None:
        return "these pictures cannot show a difference"
    return f"undecided; about {needed:,} pictures would suffice if the models differ as on these"
