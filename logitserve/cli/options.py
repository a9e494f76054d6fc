"""Shared by commands: options, errors of missing packages, and the selection of files."""

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
    help="folder with the data set; if not given, it is downloaded once",
)

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text")

url_option = click.option(
    "--url",
    envvar="LOGITSERVE_URL",
    default="http://localhost:8000",
    show_default=True,
    help="URL of the server; LOGITSERVE_API_KEY is its key",
)

store_option = click.option(
    "--store",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LOGITSERVE_STORE",
    required=True,
    help="file of the store, as for `logitserve serve`",
)


@contextmanager
def connected(url: str) -> "Iterator[Client]":
    """Return a client of a server; its errors become one line.

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
    """An option value from an enumeration, given by value; click would use the member's name."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """Return the text of the command line."""
        del ctx
        return str(choice)


def options_of(
    settings: type[Any], types: Mapping[str, Any], prefix: str = ""
) -> Callable[[Command], Command]:
    """Add an option per annotated field of a dataclass to a command; None if it is not given.

    Args:
        settings: the dataclass; fields are annotated with help and, where needed, metavar.
        types: parsers of the fields whose type click does not know.
        prefix: prefix of each help text.
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
    """Return click's type of an option."""
    (kind,) = [kind for kind in get_args(annotation) if kind is not NoneType] or [annotation]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return OneOf(kind) if issubclass(kind, StrEnum) else kind


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Wrap imports that need an optional extra.

    Raises:
        ExtraMissingError: a package is not installed; the text names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExtraMissingError(name, error.name or "a package") from error


@contextmanager
def training_errors() -> Iterator[None]:
    """Convert training errors in the block into one line.

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
    """Return the path of a model file.

    Args:
        models: the folder of models.
        wanted: `name` for its latest version, or `name/version`; None for the default as in the
        service: `digits` if present, else the only model.

    Raises:
        NoModelsError: the folder is missing or empty.
        ModelNotFoundError: the model or version does not exist; the text lists those that do.
        ModelNotNamedError: there are several models and no default.
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
    """Return the pictures of a folder, sorted; if there are none, its shards, by suffix.

    Raises:
        click.UsageError: the folder has neither; `hint` is appended.
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
