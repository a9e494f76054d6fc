"""What several commands share: options, and errors of packages that may be missing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click

from logitserve.errors import ExtraMissingError

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value", bound=StrEnum)

models_option = click.option(
    "--models",
    type=click.Path(path_type=Path),
    envvar="LOGITSERVE_MODELS",
    default=Path("models"),
    show_default=True,
    help="folder of models, <name>/<version>/",
)

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="folder with the data set; without it, it is downloaded once",
)


class OneOf(click.Choice[Value]):
    """A member of an enumeration, by its value, where click would take its name."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """What is written on the command line."""
        del ctx
        return str(choice)


def options_of(
    settings: type[Any], types: Mapping[str, Any], prefix: str = ""
) -> Callable[[Command], Command]:
    """Give a command an option for each annotated field of a dataclass; None if it is not given.

    Args:
        settings: fields are annotated with their help and, where needed, their metavar.
        types: of the fields whose own type click does not know.
        prefix: of each help text.
    """

    def decorate(command: Command) -> Command:
        for each in reversed(fields(settings)):
            if get_origin(each.type) is not Annotated:
                continue
            annotation, text, *metavar = get_args(each.type)
            command = click.option(
                f"--{each.name.replace('_', '-')}",
                type=types.get(each.name) or _kind_of(annotation),
                metavar=next(iter(metavar), None),
                help=prefix + text,
            )(command)
        return command

    return decorate


def _kind_of(annotation: Any) -> Any:
    """The type of an option, as click takes it."""
    (kind,) = [kind for kind in get_args(annotation) if kind is not NoneType] or [annotation]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return OneOf(kind) if issubclass(kind, StrEnum) else kind


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A block whose imports need an optional extra.

    Raises:
        ExtraMissingError: a package is not installed; it names the extra that has it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExtraMissingError(name, error.name or "a package") from error


@contextmanager
def training_errors() -> Iterator[None]:
    """A block whose training errors end in one line, as those of the other rooms do.

    Raises:
        ExtraMissingError: the training extra is not installed.
    """
    with extra("training"):
        from logitserve_training.errors import TrainingError

        try:
            yield
        except TrainingError as error:
            raise click.ClickException(str(error)) from error
