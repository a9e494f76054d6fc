"""`logitserve serve`."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from logitserve_service.config.settings import Settings, environment_name, option_name

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Give a command an option for each setting; `Settings` describes them."""
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
    help="file of LOGITSERVE_…=value lines; options and environment beat it",
)
def command(settings_file: Path | None, **options: str | None) -> None:
    """Serve a folder of models over HTTP."""
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.read(given, settings_file)
    # Objects made during the start live on; collecting garbage among them only takes time.
    gc.disable()
    from logitserve_service.server import main

    main.serve(settings)
