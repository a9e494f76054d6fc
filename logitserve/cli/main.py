"""The command line. A command is imported when it is called, so that help answers at once."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from logitserve.errors import LogitserveError
from logitserve.inference.errors import InferenceError
from logitserve_service.errors import ServiceError, SettingsError


class Entry(NamedTuple):
    """A command: the module below `logitserve.cli` that has it, and what it does."""

    module: str
    summary: str
    """The first line of its own help; stands here so that the list needs no import."""


COMMANDS: Final = {
    "adopt": Entry("adopt", "Give somebody else's ONNX FILE a card and publish it."),
    "calibrate": Entry("calibrate", "Calibrate and measure a model again, without training."),
    "completion": Entry("completion", "Print the script that completes commands in a SHELL."),
    "evaluate": Entry("evaluate", "Measure a published MODEL on pictures it was not trained on."),
    "export": Entry("export", "Write labeled pictures of a store as a folder to train from."),
    "feedback": Entry("feedback", "Send the true labels of predictions in FILE to a server."),
    "models": Entry("models", "Look into a folder of models, and choose which versions answer."),
    "numerics": Entry(
        "numerics", "Measure the lessons of the lecture, and write a page about them."
    ),
    "predict": Entry("predict", "Score pictures offline, without a server."),
    "quality": Entry("quality", "Show how good the answers of a server's models are."),
    "serve": Entry("serve", "Serve a folder of models over HTTP."),
    "store": Entry("store", "Look into a store of answers, and keep it in order."),
    "train": Entry("train", "Train a model by a RECIPE and publish it."),
}


class _LazyGroup(click.Group):
    """Imports a command when it is called; ends errors raised on purpose in one line."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"logitserve.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = module.command
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=entry.summary)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(f"{error}; set {_sources(error.field)}") from error
        except (InferenceError, LogitserveError, ServiceError) as error:
            raise click.ClickException(_one_line(str(error).splitlines())) from error


def _sources(field: str) -> str:
    """The option and the variable that a setting comes from."""
    from logitserve_service.config.settings import environment_name, option_name

    return " or ".join(filter(None, (option_name(field), environment_name(field))))


def _one_line(lines: Iterable[str]) -> str:
    return " ".join(line.strip() for line in lines)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logitserve")
def main() -> None:
    """Train classifiers that end in logits, and serve their class probabilities.

    `logitserve COMMAND --help` shows examples.
    """
