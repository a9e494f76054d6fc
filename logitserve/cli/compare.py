"""`logitserve models compare`."""

import csv
import json
import random
from pathlib import Path
from typing import Final

import click

from logitserve.cli.options import (
    data_option,
    json_option,
    model_file,
    models_option,
    training_errors,
)
from logitserve.inference.card import Head
from logitserve.inference.comparing import ENOUGH, evidence, more_needed
from logitserve.inference.predictor import Predictor
from logitserve_service.monitoring.receipts import text_of
from logitserve_service.monitoring.replay import Replayed, replay
from logitserve_service.monitoring.store import Store

MOST_ASKED: Final = 30
"""Maximum number of pictures that `--ask` writes."""


@click.command(
    "compare",
    epilog="""\b
    Examples:
      logitserve models compare digits/1 digits/2 --data mnist \\
        && logitserve models promote digits 2
      logitserve models compare digits/1 digits/2 --store /data/store.db --ask asked""",
)
@click.argument("first", metavar="MODEL[/VERSION]")
@click.argument("second", metavar="MODEL[/VERSION]")
@data_option
@click.option(
    "--store",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="compare on the stored pictures and labels of the first model",
)
@click.option(
    "--ask",
    type=click.Path(file_okay=False, path_type=Path),
    help="with --store: a new folder for random pictures on which the models differ, to label",
)
@models_option
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    first: str,
    second: str,
    data: Path | None,
    models: Path,
    *,
    store: Path | None,
    ask: Path | None,
    as_json: bool,
) -> None:
    """Test whether the second model has more right answers than the first on the same pictures.

    The test is McNemar's exact test on the pictures that `logitserve evaluate` uses for the second.
    The exit status is 1 unless the second is better. If there are too few pictures, the number that
    would suffice is printed.

    With --store the pictures are those that the service received. Only pictures on which the models
    differ need a label; the test may be repeated after each new label.
    """
    if ask is not None and store is None:
        raise click.UsageError("--ask needs --store")
    paths = [model_file(models, name) for name in (first, second)]
    predictors = [Predictor.load(path) for path in paths]
    cards = [predictor.card for predictor in predictors]
    if store is not None:
        if cards[0].input.shape != cards[1].input.shape:
            raise click.ClickException(f"{first} and {second} differ in their input shape")
        found = replay(Store(store), cards[0].name, *predictors)
        if ask is not None:
            _ask(ask, found, "labels" if cards[0].head is Head.SIGMOID else "label")
        if not _tell((first, second), found, as_json=as_json):
            ctx.exit(1)
        return
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


def _tell(names: tuple[str, str], found: Replayed, *, as_json: bool) -> bool:
    """Print the comparison on stored pictures; return whether the second model is better."""
    labeled = sum(found.only) + found.neither
    told = evidence(*found.only)
    verdict = "cannot tell"
    if told >= ENOUGH:
        verdict = "better" if found.only[1] > found.only[0] else "worse"
    more = more_needed(*found.only)
    # On some labeled pictures both or neither are right.
    needed = None if more is None else round(more * labeled / sum(found.only))
    document = {
        "pictures": found.pictures,
        "differ": found.differ,
        "labeled": labeled,
        "only_first_right": found.only[0],
        "only_second_right": found.only[1],
        "evidence": told,
        "second_is": verdict,
        "labels_needed": needed,
    }
    if as_json:
        click.echo(json.dumps(document))
        return verdict == "better"
    click.echo(
        f"{names[0]} and {names[1]} differ on {found.differ:,} of {found.pictures:,} pictures, "
        f"{labeled:,} of them with a label"
    )
    click.echo(
        f"only {names[1]} has {found.only[1]} right, only {names[0]} {found.only[0]} "
        f"(evidence {told:.3g} of {ENOUGH:g})"
    )
    if verdict != "cannot tell":
        click.echo(f"{names[1]} is {verdict}")
    elif needed is None:
        click.echo("undecided: label more pictures on which they differ (--ask writes some)")
    else:
        click.echo(f"undecided; about {needed:,} more labels would suffice at this proportion")
    return verdict == "better"


def _ask(folder: Path, found: Replayed, column: str) -> None:
    """Write random pictures that need a label, and a table for `logitserve feedback`."""
    if folder.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = random.sample(sorted(found.unlabeled), min(MOST_ASKED, len(found.unlabeled)))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", column])
        for identity in drawn:
            name = text_of(identity)
            (folder / f"{name}.png").write_bytes(found.unlabeled[identity])
            table.writerow([name, ""])
    click.echo(f"{len(drawn)} pictures are in {folder}: fill in its labels.csv, and", err=True)
    click.echo(f"send it: logitserve feedback {folder / 'labels.csv'}", err=True)
