"""The models of this repository: what their cards claim, and what they say about new pictures."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score

from logitserve.inference import heads, preprocessing
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import REPORT_PAGE, ModelRepository
from logitserve_training import drawings, recipes, report
from logitserve_training.drawings import Paper

ASKED = (0.9, 0.95, 0.99)
REPOSITORY = ModelRepository(Path(__file__).parents[2] / "models")
LEAST_ACCURACY = {
    "digits": 0.9965,
    "digits-mlp": 0.965,
    "softmax-regression": 0.920,
    "zero": 0.995,
}


@pytest.fixture(params=LEAST_ACCURACY)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor.load(REPOSITORY.model_file(request.param))


def test_it_is_small_and_as_accurate_as_promised(predictor: Predictor) -> None:
    card = predictor.card
    assert REPOSITORY.model_file(card.name).stat().st_size < 1_000_000
    assert card.metrics["accuracy"] >= LEAST_ACCURACY[card.name]
    assert card.dataset is not None
    assert card.dataset.test == 10_000


def test_the_probabilities_of_the_default_model_are_right() -> None:
    metrics = Predictor.load(REPOSITORY.model_file("digits")).card.metrics
    assert metrics["nll"] <= 0.0105
    assert metrics["ece"] <= 0.003


def test_the_default_model_is_right_on_corrupted_mnist_and_knows_clean_digits() -> None:
    folder = REPOSITORY.model_file("digits").parent / "report"
    rows = json.loads((folder / report.METRICS_FILE).read_text())["robustness"]
    clean, *others = [row for row in rows if row["group"] != "training"]
    published = [row["accuracy"] for row in others if row["group"] == "MNIST-C"]
    assert (len(published), len(others)) == (15, 20)
    assert np.mean(published) >= 0.95
    assert min(published) >= 0.75
    assert np.mean([row["ece"] for row in others]) <= 0.04
    assert clean["unknown"] <= 0.02


def test_it_was_made_by_its_recipe_as_that_stands(predictor: Predictor) -> None:
    card = predictor.card
    recipe = recipes.find(card.name)
    assert card.training is not None
    assert card.training.recipe == recipe.name
    assert card.training.settings["epochs"] == recipe.options.epochs
    assert card.training.settings["averaged_epochs"] == recipe.averaged_epochs
    assert card.training.settings.get("negatives", 0.0) == recipe.negatives
    assert card.training.settings.get("novelty_units", 0) == recipe.novelty_units
    augmentation = asdict(recipe.augmentation) if recipe.augmentation else None
    assert card.training.settings["augmentation"] == augmentation
    assert (card.labels, card.head, card.input) == (recipe.labels, recipe.head, recipe.input)


def test_its_report_says_what_its_card_says(predictor: Predictor) -> None:
    card = predictor.card
    folder = REPOSITORY.model_file(card.name).parent / "report"
    document = json.loads((folder / report.METRICS_FILE).read_text())
    assert document["test"] == card.metrics
    page = (folder / REPORT_PAGE).read_text()
    assert f"{card.metrics['nll']:.4f}" in page
    assert len(page) < 400_000


def test_its_sets_hold_the_truth_as_often_as_was_asked(predictor: Predictor) -> None:
    """Each coverage within its 95 % interval; of those by label no more outside than by chance."""
    card = predictor.card
    document = json.loads(
        (REPOSITORY.model_file(card.name).parent / "report" / report.METRICS_FILE).read_text()
    )
    found = {row["asked"]: row for row in document["coverage"]}
    assert all(found[at]["low"] <= found[at]["covered"] <= found[at]["high"] for at in ASKED)
    rows = document["coverage_by_label"]
    assert {row["label"] for row in rows} == set(card.labels)
    outside = sum(not row["low"] <= row["covered"] <= row["high"] for row in rows)
    assert outside <= binom.ppf(0.99, len(rows), 0.05)


@pytest.mark.parametrize(
    "paper",
    [
        drawings.MNIST_LIKE,
        drawings.SHEET,
        Paper(height=240, width=320, paper=(20, 60, 30), ink=(240, 240, 200)),
    ],
    ids=["as in MNIST", "sheet", "blackboard"],
)
def test_it_recognizes_digits_that_were_drawn_for_it(predictor: Predictor, paper: Paper) -> None:
    class_of = recipes.find(predictor.card.name).class_of
    images = np.stack(
        [
            predictor.decode(drawings.to_png(drawings.draw(digit, seed=seed, paper=paper)))
            for digit in range(10)
            for seed in range(10)
        ]
    )
    expected = np.repeat(class_of, 10)
    accuracy = np.mean(predictor.predict(images).argmax == expected)
    assert accuracy >= LEAST_ACCURACY[predictor.card.name] - 0.05


def test_the_default_model_reads_the_handwriting_of_other_people() -> None:
    """scikit-learn's digits: 8×8 pictures, blown up; nothing was trained on them."""
    predictor = Predictor.load(REPOSITORY.model_file("digits"))
    digits = load_digits()
    levels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    images = np.stack(
        [preprocessing.from_array(picture, predictor.card.input) for picture in levels[::4]]
    )
    assert np.mean(predictor.predict(images).argmax == digits.target[::4]) >= 0.9


def test_the_digits_of_scenes_are_found_however_they_were_composed() -> None:
    """Drawn by the project, each in a corner of its own: not the rule of the training."""
    predictor = Predictor.load(REPOSITORY.model_file("scenes"))
    card = predictor.card
    assert REPOSITORY.model_file("scenes").stat().st_size < 1_000_000
    assert card.metrics["macro_f1"] >= 0.985
    assert (card.head, card.labels) == (Head.SIGMOID, recipes.DIGITS)
    generator = np.random.default_rng(0)
    images = np.zeros((60, 56, 56, 1), np.uint8)
    outcomes = np.zeros((60, 10), np.int64)
    for image, holds in zip(images, outcomes, strict=True):
        for corner in generator.permutation(4)[: generator.integers(5)].tolist():
            digit, seed = int(generator.integers(10)), int(generator.integers(100))
            top, left = 28 * (corner // 2), 28 * (corner % 2)
            drawn = np.asarray(drawings.draw(digit, seed=seed).convert("L"))
            image[top : top + 28, left : left + 28, 0] = drawn
            holds[digit] = 1
    said = predictor.predict(images).probabilities >= heads.thresholds(card)
    assert f1_score(outcomes, said, average="macro") >= 0.9
