"""The command line interface. Commands are imported when they are called, so that help is fast."""

from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from logitserve.errors import LogitserveError
from logitserve.inference.errors import InferenceError
from logitserve_service.errors import ServiceError, SettingsError

COMMANDS: Final = {
    "adopt": "Publish a third-party ONNX FILE with a model card.",
    "calibrate": "Calibrate and measure a model again, without training.",
    "completion": "Print the shell completion script for SHELL.",
    "drift": "Ask a server whether its input has drifted from the reference.",
    "evaluate": "Measure a published MODEL on pictures it was not trained on.",
    "explain": "Show which parts of a PICTURE determine a MODEL's answer.",
    "export": "Write labeled pictures of a store as a folder to train from.",
    "feedback": "Send the true labels of predictions in FILE to a server.",
    "models": "List the models of a folder, and choose the live versions.",
    "numerics": "Repeat the numerical experiments on losses and training, and write their page.",
    "predict": "Score pictures offline, without a server.",
    "quality": "Show the measured quality of a server's models.",
    "serve": "Serve a folder of models over HTTP.",
    "store": "Inspect and maintain a store of predictions.",
    "train": "Train a model by a RECIPE and publish it.",
}
"""Module below `logitserve.cli` → first line of its help; the list needs no import."""


class _LazyGroup(click.Group):
    """Imports a command when it is called; prints errors raised on purpose as one line."""

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
    """Return the option and the environment variable of a setting."""
    from logitserve_service.config.settings import environment_name, option_name

    return " or ".join(filter(None, (option_name(field), environment_name(field))))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logitserve")
def main() -> None:
    """Train classifiers whose networks return logits, and serve their class probabilities.

    `logitserve COMMAND --help` shows examples.
    """
