"""What several commands share: options, and errors of packages that may be missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logitserve.errors import ExtraMissingError

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
