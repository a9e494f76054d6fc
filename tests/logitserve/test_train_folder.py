"""The options of `logitserve train folder`: how they are read, and what is wrong in one line."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitserve.cli.main import main
from logitserve.inference.card import Head
from logitserve_training import pipeline
from logitserve_training.pipeline import Published
from logitserve_training.recipes import FolderOptions, NetworkName, Recipe


def test_what_is_given_reaches_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def train(recipe: Recipe, *_: Any, **__: Any) -> Published:
        seen.append(recipe)
        return Published("mine", "1", Path("model.onnx"), {})

    monkeypatch.setattr(pipeline, "train", train)
    arguments = (
        "--head binary --class-by last --image-size 60x80 --channels 1 --group-by [^_]+ "
        "--test-groups a,b "
        "--test-split 0.2 --validation-split 0.1 --flip no --crop 0.1 --color 0 --network cnn"
    )
    done = CliRunner().invoke(main, ["train", "folder", "--data", "x", *arguments.split()])
    assert done.exit_code == 0, done.output
    (recipe,) = seen
    assert recipe.network is NetworkName.CNN
    assert recipe.folder == FolderOptions(
        head=Head.BINARY,
        class_by="last",
        image_size=(60, 80),
        channels=1,
        group_by="[^_]+",
        test_groups=("a", "b"),
        test_split=0.2,
        validation_split=0.1,
        flip=False,
        crop=0.1,
        color=0.0,
    )
    CliRunner().invoke(main, ["train", "folder", "--image-size", "64"])
    assert seen[1].folder == FolderOptions(image_size=(64, 64))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("digits --flip yes", "--flip works only with the recipe 'folder'"),
        ("zero --network cnn", "--network works only with the recipe 'folder'"),
        ("folder --image-size big", "'big' is neither a number of pixels nor HEIGHTxWIDTH"),
        ("folder --image-size 4", "--image-size must be 8 to 1024 pixels a side"),
        ("folder --test-groups a", "--test-groups needs --group-by"),
        ("folder", "needs --data"),
        ("folder --finish", "--finish needs --resume"),
        ("folder --backbone b.onnx", "--backbone works only with the recipe 'folder' and --data"),
        ("folder --data nowhere", "nowhere is not a folder"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: str, reason: str) -> None:
    done = CliRunner().invoke(main, ["train", *arguments.split()])
    assert done.exit_code in (1, 2)
    assert reason in done.output.splitlines()[-1]
