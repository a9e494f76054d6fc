"""The command line. Imports the service and TensorFlow only in the commands that need them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from inference.errors import InferenceError
from service.errors import ServiceError, SettingsError
from service.settings import Settings, environment_name

Command = TypeVar("Command", bound=Callable[..., Any])


class _Group(click.Group):
    """A group whose commands end in one line, not a traceback, for errors raised on purpose."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            option = error.field.replace("_", "-")
            raise click.ClickException(
                f"{error}; set --{option} or {environment_name(error.field)}"
            ) from error
        except (InferenceError, ServiceError) as error:
            raise click.ClickException(str(error)) from error


def settings_options(command: Command) -> Command:
    """Give a command one option a setting; what it is, is said in `Settings` alone."""
    for name, field in reversed(Settings.model_fields.items()):
        default = "" if field.default is None else f"; default: {field.default}"
        command = click.option(
            f"--{name.replace('_', '-')}",
            name,
            metavar="TEXT" if field.annotation is str else "VALUE",
            help=f"{field.description}  [{environment_name(name)}{default}]",
        )(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logitserve")
def main() -> None:
    """Train classifiers that end in logits, and serve their class probabilities."""


@main.command(
    epilog="""\b
    Examples:
      logitserve serve
      logitserve serve --models /srv/models --host 0.0.0.0 --port 8080"""
)
@settings_options
@click.option(
    "--settings",
    "settings_file",
    envvar="LOGITSERVE_SETTINGS",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="file of LOGITSERVE_…=value lines; the environment and the options beat it",
)
def serve(settings_file: Path | None, **options: str | None) -> None:
    """Serve a folder of models over HTTP."""
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.read(given, settings_file)
    from service import server

    server.serve(settings)


@main.command(
    epilog="""\b
    Examples:
      logitserve train digits
      logitserve train digits-mlp --data mnist --name mine --epochs 60"""
)
@click.argument("recipe")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="folder with the data set; without it, it is downloaded once",
)
@click.option("--name", help="name of the model; without it, the recipe's")
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    envvar="LOGITSERVE_MODELS",
    default=Path("models"),
    show_default=True,
    help="folder to publish in",
)
@click.option(
    "--optimizer", type=click.Choice(["adam", "sgd"]), help="how the weights follow the gradient"
)
@click.option("--learning-rate", type=float, help="the largest of the schedule")
@click.option("--epochs", type=int, help="passes over the training part")
@click.option("--batch-size", type=int, help="pictures a step")
@click.option("--weight-decay", type=float, help="decoupled from the gradient")
@click.option("--seed", type=int, help="the same one gives the same weights on the same machine")
def train(recipe: str, data: Path | None, name: str | None, models: Path, **options: Any) -> None:
    """Train a model by a RECIPE and publish it.

    An option that is not given is the recipe's own.
    """
    from training import errors, recipes

    try:
        chosen = recipes.find(recipe)
        given = {key: value for key, value in options.items() if value is not None}
        if "optimizer" in given:
            given["optimizer"] = recipes.Optimizer(given["optimizer"])
        settings = replace(chosen.options, **given)
        from training import pipeline  # after the options are checked: it imports TensorFlow

        published = pipeline.train(chosen, settings, data=data, models=models, name=name)
    except errors.TrainingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"published {published.name} version {published.version}: {published.path}")
    for metric, value in published.metrics.items():
        click.echo(f"  {metric}: {value:.4f}")
