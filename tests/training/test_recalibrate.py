"""A published file calibrated again, without training."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from rich.console import Console

from logitserve.cli.main import main
from logitserve.inference.card import Head
from logitserve.inference.errors import GoldenMismatchError
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_training import export, recipes, report
from logitserve_training.datasets import mnist
from logitserve_training.errors import OptionError
from logitserve_training.pipeline import Published, train
from logitserve_training.recalibrate import recalibrate
from logitserve_training.recipes import FolderOptions, NetworkName
from tests.training.conftest import QUICK
from tests.training.datasets.test_folder import class_folder, label_folder

QUIET = Console(quiet=True)


@pytest.fixture
def copied(published: Published, tmp_path: Path) -> Path:
    """A folder of models with one whose card says nothing of calibration."""
    shutil.copytree(published.path.parents[1], tmp_path / "digits-mlp")
    file = tmp_path / "digits-mlp/1/model.onnx"
    card = Predictor.load(file).card
    bare = {"calibration": None, "conformal": None, "energy": None, "temperature": 1.0}
    export.write(onnx.load(file), card.model_copy(update=bare), file)
    return tmp_path


@pytest.mark.parametrize("in_place", [False, True])
def test_a_card_is_completed_as_training_would_have(
    copied: Path, published: Published, data: Path, *, in_place: bool
) -> None:
    card = recalibrate("digits-mlp", data=data, models=copied, in_place=in_place, console=QUIET)
    trained = Predictor.load(published.path).card
    version = "1" if in_place else "2"
    assert card == trained.model_copy(update={"version": version})
    repository = ModelRepository(copied)
    assert repository.versions("digits-mlp") == (["1"] if in_place else ["1", "2"])
    file = repository.model_file("digits-mlp")
    assert Predictor.load(file).card == card
    one, other = (
        json.loads((path.parent / "report" / report.METRICS_FILE).read_text())
        for path in (file, published.path)
    )
    assert one["epochs"] == other["epochs"]
    assert {path.name for path in file.parents[1].iterdir()} == set(
        repository.versions("digits-mlp")
    )


def test_goldens_of_another_preprocessing_are_noted_anew(copied: Path, data: Path) -> None:
    file = copied / "digits-mlp/1/model.onnx"
    card = Predictor.load(file).card
    first, *others = card.goldens
    other = first.model_copy(update={"logits": first.logits[::-1]})
    goldens = {"goldens": (other, *others)}
    export.write(onnx.load(file), card.model_copy(update=goldens), file)
    with pytest.raises(GoldenMismatchError, match="`logitserve calibrate digits-mlp`"):
        Predictor.load(file)

    recalibrate("digits-mlp", data=data, models=copied, console=QUIET)
    found = Predictor.load(copied / "digits-mlp/2/model.onnx").card.goldens
    np.testing.assert_allclose(found[0].logits, first.logits, atol=1e-4)
    assert found[1:] == tuple(others)


def test_the_command_prints_figures_with_their_intervals(copied: Path, data: Path) -> None:
    options = ["--data", str(data), "--models", str(copied)]
    done = CliRunner().invoke(main, ["calibrate", "digits-mlp", *options])
    assert done.exit_code == 0, done.output
    card = Predictor.load(copied / "digits-mlp/2/model.onnx").card
    low, high = card.intervals["accuracy"]
    said = f"  accuracy: {card.metrics['accuracy']:.4f} ({low:.4f} to {high:.4f})"
    assert said in done.stdout.splitlines()


FOLDERS: dict[str, tuple[Callable[[Path], Path], FolderOptions]] = {
    "plain": (class_folder, FolderOptions()),
    "grouped, binary": (
        class_folder,
        FolderOptions(head=Head.BINARY, group_by="m[0-9]", test_groups=("m1",)),
    ),
    "csv, resized": (
        label_folder,
        FolderOptions(image_size=(16, 24), channels=1, test_split=0.3, validation_split=0.25),
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_model_of_a_folder_is_calibrated_on_the_parts_of_its_training(
    kind: str, tmp_path: Path
) -> None:
    make, options = FOLDERS[kind]
    pictures = make(tmp_path / "pictures")
    recipe = replace(recipes.find("folder"), network=NetworkName.LINEAR, folder=options)
    models = tmp_path / "models"
    quick = replace(QUICK, epochs=1)
    trained = Predictor.load(
        train(recipe, quick, data=pictures, models=models, name="mine", console=QUIET).path
    ).card
    card = recalibrate("mine", data=pictures, models=models, console=QUIET)
    assert card == trained.model_copy(update={"version": "2"})


def test_parts_that_are_parted_otherwise_are_refused(
    copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "SPLIT_SEED", 1)
    with pytest.raises(OptionError, match=r"train, validation differ.*train it again"):
        recalibrate("digits-mlp", data=data, models=copied, console=QUIET)


def test_held_out_pictures_must_be_those_of_the_training(copied: Path, data: Path) -> None:
    file = copied / "digits-mlp/1/model.onnx"
    card = Predictor.load(file).card
    assert card.dataset is not None
    other = card.dataset.model_copy(update={"sha256": "0" * 64})
    export.write(onnx.load(file), card.model_copy(update={"dataset": other}), file)
    with pytest.raises(OptionError, match="was trained on other data"):
        recalibrate("digits-mlp", data=data, models=copied, console=QUIET)


def test_a_model_of_an_unknown_recipe_is_refused(copied: Path, data: Path) -> None:
    file = copied / "digits-mlp/1/model.onnx"
    card = Predictor.load(file).card
    export.write(onnx.load(file), card.model_copy(update={"training": None}), file)
    with pytest.raises(OptionError, match="was not trained with a recipe of this version"):
        recalibrate("digits-mlp", data=data, models=copied, console=QUIET)


def test_what_goes_wrong_changes_nothing(
    copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in copied.rglob("*") if p.is_file())

    def fails(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(report, "write", fails)
    for in_place in (False, True):
        with pytest.raises(OSError, match="full"):
            recalibrate("digits-mlp", data=data, models=copied, in_place=in_place, console=QUIET)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in copied.rglob("*") if p.is_file())
    assert np.all([p.name == "1" for p in (copied / "digits-mlp").iterdir()])
