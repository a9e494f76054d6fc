"""Load the data set of a recipe from its source."""

from pathlib import Path

from logitserve_training.datasets import folder, mnist, scenes
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Recipe, Source


def load(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """Load the pictures from the folder `data`; None downloads them.

    Returns the recipe, completed from the pictures, and the data set.

    Raises:
        DataError: the data cannot be used.
    """
    if recipe.source is Source.FOLDER:
        return folder.load(recipe, data, reporter)
    digits = mnist.load(data, reporter)
    if recipe.source is Source.SCENES:
        return recipe, scenes.from_digits(digits)
    return recipe, digits.regrouped(recipe.class_of)
