"""What several commands share: options, errors of missing packages, which files are meant."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import click

from logitserve.errors import ExtraMissingError, ModelNotNamedError
from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.images import PICTURE_SUFFIXES
from logitserve.inference.naming import absent
from logitserve.inference.repository import ModelRepository, default_model

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value", bound=StrEnum)

if TYPE_CHECKING:
    from logitserve.client import Client

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

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text")

url_option = click.option(
    "--url",
    envvar="LOGITSERVE_URL",
    default="http://localhost:8000",
    show_default=True,
    help="of the server; its key is LOGITSERVE_API_KEY",
)

store_option = click.option(
    "--store",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LOGITSERVE_STORE",
    required=True,
    help="file of the store, as of `logitserve serve`",
)


@contextmanager
def connected(url: str) -> "Iterator[Client]":
    """A client of a server; its errors end in one line.

    Raises:
        ExtraMissingError: the client extra is not installed.
    """
    with extra("client"):
        from logitserve.client import Client, ClientError
    try:
        with Client(url) as client:
            yield client
    except ClientError as error:
        raise click.ClickException(f"{url}: {error}") from error


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


def model_file(models: Path, wanted: str | None) -> Path:
    """The file of a model.

    Args:
        models: the folder of models.
        wanted: `name` for its latest version, or `name/version`; None for the default, which is
            `digits` if present, else the only one, as when serving.

    Raises:
        NoModelsError: the folder is missing or empty.
        ModelNotFoundError: there is no such model or version; it lists those that there are.
        ModelNotNamedError: there are several and none is the default.
    """
    repository = ModelRepository(models)
    names = repository.names()
    if wanted is None:
        default = default_model(names)
        if default is None:
            raise ModelNotNamedError(
                f"there are several models in {models}; choose one with --model: {', '.join(names)}"
            )
        return repository.model_file(default)
    name, slash, version = wanted.partition("/")
    if name not in names:
        raise ModelNotFoundError(absent("model", name, names, f" in {models}"))
    return repository.model_file(name, version if slash else None)


def in_folder(
    folder: Path, *, recursive: bool = False, hint: str = "", shards: Iterable[str] = ()
) -> list[Path]:
    """The pictures of a folder, sorted; where it has none, its shards, by their suffixes.

    Raises:
        click.UsageError: there are none; `hint` is added.
    """
    found = folder.rglob("*") if recursive else folder.iterdir()
    entries = sorted(found)
    for suffixes in (tuple(PICTURE_SUFFIXES), tuple(shards)):
        files = [
            file for file in entries if file.name.lower().endswith(suffixes) and file.is_file()
        ]
        if files:
            return files
    raise click.UsageError(f"no pictures in the folder {folder}{hint}")
