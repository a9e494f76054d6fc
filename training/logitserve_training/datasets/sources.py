"""The pictures of a recipe, wherever they come from, in their three parts."""

from pathlib import Path

from logitserve_training.datasets import folder, mnist, scenes
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Recipe, Source


def load(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """Read the pictures from the folder `data`, or None: download them.

    Returns the recipe, completed by what the pictures say, and the pictures.

    Raises:
        DataError: they cannot be used.
    """
    if recipe.source is Source.FOLDER:
        return folder.load(recipe, data, reporter)
    digits = mnist.load(data, reporter)
    if recipe.source is Source.SCENES:
        return recipe, scenes.from_digits(digits)
    return recipe, digits.regrouped(recipe.class_of)
