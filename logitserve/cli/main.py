"""The command line. A command is imported when it is called, so that help answers at once."""

from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from logitserve.errors import LogitserveError
from logitserve.inference.errors import InferenceError
from logitserve_service.errors import ServiceError, SettingsError

COMMANDS: Final = {
    "adopt": "Give somebody else's ONNX FILE a card and publish it.",
    "calibrate": "Calibrate and measure a model again, without training.",
    "completion": "Print the script that completes commands in a SHELL.",
    "drift": "Ask a server whether what it is sent is still normal.",
    "evaluate": "Measure a published MODEL on pictures it was not trained on.",
    "explain": "Show which parts of a PICTURE a MODEL's answer comes from.",
    "export": "Write labeled pictures of a store as a folder to train from.",
    "feedback": "Send the true labels of predictions in FILE to a server.",
    "models": "Look into a folder of models, and choose which versions answer.",
    "numerics": "Measure the lessons of the lecture, and write a page about them.",
    "predict": "Score pictures offline, without a server.",
    "quality": "Show how good the answers of a server's models are.",
    "serve": "Serve a folder of models over HTTP.",
    "store": "Look into a store of answers, and keep it in order.",
    "train": "Train a model by a RECIPE and publish it.",
}
"""Module below `logitserve.cli`, and the first line of its help: the list needs no import."""


class _LazyGroup(click.Group):
    """Imports a command when it is called; ends errors raised on purpose in one line."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"logitserve.cli.{cmd_name}").command
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=summary)
            for name, summary in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(f"{error}; set {_sources(error.field)}") from error
        except (InferenceError, LogitserveError, ServiceError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def _sources(field: str) -> str:
    """The option and the variable that a setting comes from."""
    from logitserve_service.config.settings import environment_name, option_name

    return " or ".join(filter(None, (option_name(field), environment_name(field))))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logitserve")
def main() -> None:
    """Train classifiers that end in logits, and serve their class probabilities.

    `logitserve COMMAND --help` shows examples.
    """
