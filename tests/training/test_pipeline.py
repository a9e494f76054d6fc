import io
import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image
from rich.console import Console

from logitserve.inference import features
from logitserve.inference.card import Fit, Head
from logitserve.inference.errors import PublishError
from logitserve.inference.features import Bins
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_training import export, pipeline, recipes, report
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import (
    DataMissingError,
    DisagreementError,
    NotBetterError,
    OptionError,
)
from logitserve_training.evaluate import evaluate
from logitserve_training.pipeline import Published
from logitserve_training.progress import Reporter
from tests.training.conftest import QUICK
from tests.training.measured import evaluate_file


def weights(path: Path) -> list[npt.NDArray[np.float32]]:
    return [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]


def test_a_model_is_published_with_its_card(
    published: Published, models: Path, dataset: Dataset
) -> None:
    assert published.path == models / "digits-mlp" / "1" / "model.onnx"
    assert ModelRepository(models).model_file("digits-mlp") == published.path
    card = Predictor.load(published.path).card
    assert (card.name, card.version, card.head) == ("digits-mlp", "1", Head.SOFTMAX)
    assert card.input.fit is Fit.DIGIT
    assert card.dataset == dataset.info
    assert card.training is not None
    assert card.training.recipe == "digits-mlp"
    assert card.training.seed == 3
    assert card.training.settings["learning_rate"] == 5e-3
    assert card.training.settings["optimizer"] == "adam"
    assert re.fullmatch(r"2\.\d+\.\d+", card.training.libraries["tensorflow"])
    assert card.metrics == published.metrics
    assert card.metrics["accuracy"] > 0.85


def test_the_metrics_are_those_of_the_published_file(
    published: Published, data: Path, dataset: Dataset
) -> None:
    again = evaluate_file(published.path, data, Reporter())
    assert again.metrics == published.metrics
    assert again.confusion is not None
    assert again.confusion.sum() == len(dataset.test)
    assert again.metrics["accuracy"] == np.mean(again.predictions.argmax == dataset.test.classes)


def test_the_reference_is_of_the_pictures_that_were_held_out(
    published: Published, dataset: Dataset
) -> None:
    predictor = Predictor.load(published.path)
    card, held_out = predictor.card, dataset.validation
    said = predictor.predict(held_out.images)
    normal = card.reference
    assert normal is not None
    assert normal.pictures == len(held_out)
    assert normal.accuracy == np.mean(said.argmax == held_out.classes)
    counted = np.bincount(said.argmax, minlength=10).tolist()
    assert list(normal.features["classes"].counts) == counted
    assert said.known is not None
    known = int(said.known.sum())
    assert normal.features["known"].counts == (len(held_out) - known, known)
    values = features.measure(held_out.images, said, card)
    counts = Bins(normal.features).count(values).tolist()
    assert counts == [count for each in normal.features.values() for count in each.counts]


def test_the_report_stands_beside_the_file(published: Published, dataset: Dataset) -> None:
    folder = published.path.parent / "report"
    document = json.loads((folder / report.METRICS_FILE).read_text())
    assert document["test"] == published.metrics
    assert len(document["epochs"]) == QUICK.epochs
    assert np.sum(document["confusion"]) == len(dataset.test)
    with Image.open(folder / report.WORST_MISTAKES) as picture:
        assert min(picture.size) > 300
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html", "metrics.json", "worst_mistakes.png",
    ]  # fmt: skip


def test_the_next_training_is_the_next_version_and_the_seed_makes_it_the_same(
    published: Published, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(published.path.parents[1], tmp_path / "mine")
    log = io.StringIO()
    again = pipeline.train(
        recipes.find("digits-mlp"),
        QUICK,
        data=data,
        models=tmp_path,
        name="mine",
        console=Console(file=log, width=300),
    )
    assert (again.name, again.version) == ("mine", "2")
    for one, other in zip(weights(again.path), weights(published.path), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = log.getvalue().splitlines()
    assert "digits-mlp: 1320 pictures, 6 epochs" in lines
    assert any("Keras and onnxruntime agree to" in line for line in lines)
    assert lines[-1].startswith(f"published {again.path}: accuracy 0.")


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., Published]:
    """Trains without a word, and publishes in `tmp_path`."""
    return partial(pipeline.train, data=data, models=tmp_path, console=Console(quiet=True))


def test_yes_or_no_is_measured_with_precision_and_recall(train: Callable[..., Published]) -> None:
    published = train(recipes.find("zero"), QUICK)
    predictor = Predictor.load(published.path)
    assert predictor.card.labels == ("other", "zero")
    assert predictor.card.logit_count == 1
    assert predictor.card.novelty is not None
    assert predictor.card.ink is not None
    assert published.metrics.keys() == {
        "accuracy", "nll", "brier", "ece", "precision", "recall", "f1",
    }  # fmt: skip
    assert published.metrics["f1"] > 0.8


def test_nothing_is_published_when_the_file_disagrees(
    train: Callable[..., Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(DisagreementError, match="nothing is published"):
        train(recipes.find("softmax-regression"), replace(QUICK, epochs=1))
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_compared_with_the_one_before(
    published: Published, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(published.path.parents[1], tmp_path / "digits-mlp")
    log = io.StringIO()
    train = partial(
        pipeline.train,
        recipes.find("digits-mlp"),
        replace(QUICK, epochs=1, learning_rate=1e-5),
        data=data,
        models=tmp_path,
        console=Console(file=log, width=300),
    )
    with pytest.raises(NotBetterError, match=r"beside version 1: .* WORSE; nothing is published"):
        train(if_better=True)
    assert ModelRepository(tmp_path).versions("digits-mlp") == ["1"]
    assert train().version == "2"
    assert log.getvalue().count("WORSE") == 2


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_training_goes_on_where_it_was(
    published: Published,
    train: Callable[..., Published],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = partial(train, recipes.find("digits-mlp"))
    line = Reporter.line

    def interrupted(self: Reporter, text: str, *, at: str, by: signal.Signals) -> None:
        line(self, text)
        if text.startswith(at):
            signal.raise_signal(by)

    for at, by in (("epoch 2/", signal.SIGINT), ("epoch 4/", signal.SIGTERM)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Reporter, "line", partialmethod(interrupted, at=at, by=by))
            train(QUICK, resume=by is signal.SIGTERM)
        assert [path.name for path in (tmp_path / "digits-mlp").iterdir()] == [".training"]
    with pytest.raises(OptionError, match="belongs to a training with other options"):
        train(replace(QUICK, epochs=9), resume=True)
    resumed = train(QUICK, resume=True)
    for one, other in zip(weights(resumed.path), weights(published.path), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    document = json.loads((resumed.path.parent / "report" / report.METRICS_FILE).read_text())
    assert len(document["epochs"]) == QUICK.epochs
    assert [path.name for path in (tmp_path / "digits-mlp").iterdir()] == ["1"]
    with pytest.raises(OptionError, match="no training to resume"):
        train(QUICK, resume=True)


def test_mistakes_are_found_before_anything_is_trained(
    train: Callable[..., Published], tmp_path: Path
) -> None:
    recipe = recipes.find("digits-mlp")
    with pytest.raises(DataMissingError, match="has no train-images"):
        train(recipe, QUICK, data=tmp_path)
    with pytest.raises(PublishError, match="is not a model name"):
        train(recipe, QUICK, name="My Model")


def test_too_little_space_is_found_before_anything_is_trained(
    train: Callable[..., Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OptionError, match="has 5 MB free, and a training needs 100"):
        train(recipes.find("digits-mlp"), QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_an_unknown_recipe_has_no_test_set(
    published: Published, tmp_path: Path, data: Path
) -> None:
    card = Predictor.load(published.path).card
    proto = onnx.load(published.path)
    export.write(proto, card.model_copy(update={"training": None}), tmp_path / "model.onnx")
    with pytest.raises(OptionError, match="was not trained with a recipe of this version"):
        evaluate_file(tmp_path / "model.onnx", data, Reporter())


def test_every_picture_is_evaluated(published: Published, dataset: Dataset) -> None:
    """357 pictures are one whole batch and a remainder."""
    evaluation = evaluate(Predictor.load(published.path), dataset.test)
    assert len(evaluation.predictions) == len(dataset.test) == 357
