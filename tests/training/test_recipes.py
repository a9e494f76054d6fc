import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from logitserve.inference.card import Head
from logitserve_training.errors import OptionError
from logitserve_training.recipes import RECIPES, FolderOptions, Options, Recipe, find


def test_recipes_and_evaluation_do_without_tensorflow() -> None:
    code = (
        "import sys, logitserve_training.evaluate; "
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_shipped_models_have_their_recipes() -> None:
    assert list(RECIPES) == [
        "softmax-regression",
        "digits-mlp",
        "digits",
        "zero",
        "scenes",
        "folder",
    ]
    assert all(find(name).name == name for name in RECIPES)


OF_DIGITS = [recipe for recipe in RECIPES.values() if recipe.folder is None]


@pytest.mark.parametrize("recipe", OF_DIGITS, ids=lambda recipe: recipe.name)
def test_every_class_of_the_data_set_has_a_label(recipe: Recipe) -> None:
    assert len(recipe.class_of) == 10
    assert set(recipe.class_of) == set(range(len(recipe.labels)))


def test_zero_asks_whether_it_is_a_zero() -> None:
    recipe = find("zero")
    assert recipe.head is Head.BINARY
    assert [recipe.labels[index] for index in recipe.class_of] == ["zero"] + ["other"] * 9


def test_an_unknown_recipe_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        OptionError, match=r"no recipe 'letters'; there is softmax-regression, .*zero"
    ):
        find("letters")


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"learning_rate": float("inf")}, "--learning-rate"),
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"weight_decay": -0.1}, "--weight-decay"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**32}, "--seed"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(change: dict[str, Any], option: str) -> None:
    with pytest.raises(OptionError, match=option):
        replace(Options(), **change)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"image_size": (7, 60)}, "--image-size"),
        ({"image_size": (60, 1025)}, "--image-size"),
        ({"test_split": 0.0}, "--test-split"),
        ({"test_split": 0.6}, "--test-split"),
        ({"validation_split": 0.0}, "--validation-split"),
        ({"crop": 0.6}, "--crop"),
        ({"color": -0.1}, "--color"),
        ({"test_groups": ("b",)}, "--test-groups needs --group-by"),
    ],
)
def test_an_option_of_a_folder_that_cannot_be_used_is_named(
    change: dict[str, Any], option: str
) -> None:
    with pytest.raises(OptionError, match=option):
        replace(FolderOptions(), **change)
