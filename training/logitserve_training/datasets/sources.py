"""The pictures of a recipe, wherever they come from, in their three parts."""

from pathlib import Path
from typing import Final, Protocol

from logitserve_training.datasets import folder, mnist, scenes
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Recipe, Source


class Load(Protocol):
    """Reads the pictures of a recipe; one for each `Source`."""

    def __call__(
        self, recipe: Recipe, data: Path | None, reporter: Reporter
    ) -> tuple[Recipe, Dataset]:
        """Read them from the folder `data`, or None: download them.

        Returns the recipe, completed by what the pictures say, and the pictures.

        Raises:
            DataError: they cannot be used.
        """


def load(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """Read the pictures of a recipe; see `Load`."""
    return _LOADS[recipe.source](recipe, data, reporter)


def _digits(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    return recipe, mnist.load(data, reporter).regrouped(recipe.class_of)


def _scenes(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    return recipe, scenes.from_digits(mnist.load(data, reporter))


_LOADS: Final[dict[Source, Load]] = {
    Source.MNIST: _digits,
    Source.SCENES: _scenes,
    Source.FOLDER: folder.load,
}
