"""`logitserve serve`."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from logitserve_service.config.settings import Settings, environment_name, option_name

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Add an option for each setting to a command; `Settings` describes them."""
    for name, field in reversed(Settings.model_fields.items()):
        option = option_name(name)
        if option is None:
            continue
        default = "" if field.default is None else f"; default: {field.default}"
        command = click.option(
            option,
            name,
            metavar="TEXT" if field.annotation is str else "VALUE",
            help=f"{field.description}  [{environment_name(name)}{default}]",
        )(command)
    return command


def _instead(path: Path) -> str:
    """Return the remedy for a positional argument; the folder of models is an option."""
    if not path.exists():
        return f"{path.absolute()} does not exist; serve a folder of models with --models FOLDER"
    if path.is_dir():
        return f"write --models {path}"
    from logitserve.inference.errors import CardMissingError, ModelFileError
    from logitserve.inference.predictor import Predictor

    try:
        card = Predictor.load(path).card
    except CardMissingError:
        return (
            f"{path} is one file without a model card; publish it with `logitserve adopt {path} "
            "--name NAME --labels LABEL,…`, then `logitserve serve`"
        )
    except ModelFileError as error:
        return f"models are served from a folder, and this file is not a model: {error}"
    folder = Path("models", card.name, "1")
    return (
        f"{path} is one file; put it into a folder of models with `mkdir -p {folder} && cp {path} "
        f"{folder}/model.onnx`, then `logitserve serve`"
    )


@click.command(
    "serve",
    epilog="""\b
    Examples:
      logitserve serve
      logitserve serve --models /srv/models --host 0.0.0.0 --port 8080""",
)
@settings_options
@click.option(
    "--settings",
    "settings_file",
    envvar="LOGITSERVE_SETTINGS",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="file of LOGITSERVE_…=value lines; options and environment variables override it",
)
@click.argument("path", required=False, type=click.Path(path_type=Path), metavar="")
def command(path: Path | None, settings_file: Path | None, **options: str | None) -> None:
    """Serve a folder of models over HTTP."""
    if path is not None:
        raise click.UsageError(_instead(path))
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.read(given, settings_file)
    # Objects created at start live until the end; collecting garbage among them wastes time.
    gc.disable()
    from logitserve_service.server import main

    main.serve(settings)
