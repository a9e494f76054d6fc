"""The command line. Imports the service and TensorFlow only in the commands that need them."""

from collections.abc import Callable
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
