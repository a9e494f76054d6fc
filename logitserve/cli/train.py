"""`logitserve train`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from logitserve.cli.folder_options import FOLDER_OPTIONS, folder_options, with_folder_options
from logitserve.cli.options import data_option, models_option, training_errors


@click.command(
    "train",
    epilog="""\b
    Examples:
      logitserve train digits
      logitserve train digits-mlp --data mnist --name mine --epochs 60
      logitserve train folder --data pictures --name mine
      logitserve train folder --data street --name street --group-by '[^_]+'

    The recipe `folder` takes pictures in one folder a class, or with a labels.csv of
    `filename,label…` and 0 or 1. What no option says is decided by the pictures.""",
)
@click.argument("recipe")
@data_option
@click.option("--name", help="name of the model; without it, the recipe's")
@models_option
@click.option(
    "--optimizer", type=click.Choice(["adam", "sgd"]), help="how the weights follow the gradient"
)
@click.option("--learning-rate", type=float, help="the largest of the schedule")
@click.option("--epochs", type=int, help="passes over the training part")
@click.option("--batch-size", type=int, help="pictures a step")
@click.option("--weight-decay", type=float, help="decoupled from the gradient")
@click.option("--seed", type=int, help="the same one gives the same weights on the same machine")
@folder_options
def command(
    recipe: str,
    data: Path | None,
    name: str | None,
    models: Path,
    network: str | None,
    **options: Any,
) -> None:
    """Train a model by a RECIPE and publish it.

    An option that is not given is the recipe's own.
    """
    of_folder = {key: options.pop(key) for key in FOLDER_OPTIONS}
    with training_errors():
        from logitserve_training import recipes

        chosen = recipes.find(recipe)
        given = {key: value for key, value in options.items() if value is not None}
        if "optimizer" in given:
            given["optimizer"] = recipes.Optimizer(given["optimizer"])
        settings = replace(chosen.options, **given)
        chosen = with_folder_options(chosen, network, of_folder)
        from logitserve_training import (
            pipeline,  # after the options are checked: it imports TensorFlow
        )

        published = pipeline.train(chosen, settings, data=data, models=models, name=name)
    click.echo(f"published {published.name} version {published.version}: {published.path}")
    for metric, value in published.metrics.items():
        click.echo(f"  {metric}: {value:.4f}")
