"""What several commands share: options, and errors of packages that may be missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from logitserve.errors import ExtraMissingError

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
