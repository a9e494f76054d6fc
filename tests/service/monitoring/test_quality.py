"""Quality of a store's rows, for each head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitserve.inference import conformal
from logitserve.inference.card import Energy, Head
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.monitoring.feedback import TrueLabel, take
from logitserve_service.monitoring.quality import Quality, measure
from logitserve_service.monitoring.receipts import Receipts
from logitserve_service.monitoring.store import Store
from logitserve_service.monitoring.store_writer import StoreWriter
from tests.service.monitoring.pictures import reference_of
from tests.tiny_models import publish, random_picture

COUNT = 60
REFERENCE = reference_of(np.stack([random_picture(seed) for seed in range(1000, 2500)]))
SETS = conformal.calibrate(np.linspace(-0.9, 0.9, 1000), np.arange(1000) % 10, 10)


def answered(
    folder: Path, truth: Any, *, count: int = COUNT, labeled: int = COUNT, **fields: Any
) -> tuple[Quality, Predictions, Predictor]:
    """Quality of a model's answers about random pictures; `truth` says what is true of each."""
    publish(folder, **fields)
    predictor = Predictor.load(folder / "tiny/1/model.onnx")
    store = Store(folder / "store.db")
    store_writer = StoreWriter(store, lambda *_: None)
    receipts = Receipts([b"k" * 32], store_writer)
    images = np.stack([random_picture(seed) for seed in range(count)])
    predictions = predictor.predict(images)
    ids = receipts.of(predictor.card)(predictions, images, ())
    store_writer.write()
    labels = [TrueLabel(id=of, labels=truth(row)) for row, of in enumerate(ids[:labeled])]
    outcome, _ = take(labels, store, receipts, 30)
    assert outcome.accepted == labeled
    return measure(store, predictor.card, 1), predictions, predictor


def test_coverage_is_that_of_the_sets_that_are_answered(tmp_path: Path) -> None:
    found, predictions, predictor = answered(
        tmp_path, lambda row: [str(row % 10)], conformal=SETS, temperature=2.0
    )
    sets = conformal.prediction_sets(predictor.card, predictions.logits, 0.9)
    covered = sum(row % 10 in of for row, of in enumerate(sets))
    assert 0 < covered < COUNT
    of = found.measures["coverage 0.9"]
    assert of.n == COUNT
    assert of.naive.value == pytest.approx(covered / COUNT, abs=0.02)
    truth = np.arange(COUNT) % 10
    losses = -np.log(predictions.probabilities[np.arange(COUNT), truth])
    assert found.measures["nll"].naive.value == pytest.approx(losses.mean(), rel=2e-3)


def test_of_several_labels_all_must_be_right(tmp_path: Path) -> None:
    labels, thresholds = ("car", "bus", "tram"), (0.2, 0.5, 0.8)
    generator = np.random.default_rng(1)
    truth = generator.random((COUNT, 3)) < 0.5
    found, predictions, _ = answered(
        tmp_path,
        lambda row: [name for name, holds in zip(labels, truth[row], strict=True) if holds],
        head=Head.SIGMOID,
        labels=labels,
        thresholds=thresholds,
        seed=3,
    )
    p = predictions.probabilities
    said = p >= np.array(thresholds)
    right = (said == truth).all(axis=1)
    assert 0 < right.sum() < COUNT
    assert found.measures["accuracy"].naive.value == right.mean()
    nll = -np.log(np.where(truth, p, 1 - p)).mean()
    assert found.measures["nll"].naive.value == pytest.approx(nll, rel=2e-3)
    both, either = (said & truth)[:, 1].sum(), said[:, 1].sum() + truth[:, 1].sum()
    assert found.measures["f1 bus"].naive.value == pytest.approx(2 * both / either)
    assert (found.estimated, found.not_estimated) == (None, "an image can have several labels")
    assert found.confusion == {}


def test_two_labels_of_one_logit(tmp_path: Path) -> None:
    found, predictions, _ = answered(
        tmp_path, lambda row: [("no", "yes")[row % 2]], head=Head.BINARY, labels=("no", "yes")
    )
    right = predictions.argmax == np.arange(COUNT) % 2
    assert found.measures["accuracy"].naive.value == pytest.approx(right.mean())
    assert sum(sum(row.values()) for row in found.confusion.values()) == COUNT
    losses = -np.log(predictions.probabilities[np.arange(COUNT), np.arange(COUNT) % 2])
    assert found.measures["nll"].naive.value == pytest.approx(losses.mean(), rel=2e-3)


def test_a_label_that_no_class_has_is_an_error_of_the_model(tmp_path: Path) -> None:
    found, _, _ = answered(tmp_path, lambda _: ["eleven"])
    assert found.new_classes == {"eleven": COUNT}
    assert found.measures["accuracy"].naive.value == 0
    assert "nll" not in found.measures
    assert found.confusion == {}


@pytest.mark.parametrize(("threshold", "known"), [(1e9, True), (-1e9, False)])
def test_the_estimate_without_labels_is_given_where_images_are_known(
    tmp_path: Path, threshold: float, *, known: bool
) -> None:
    energy = Energy(threshold=threshold, known_share=0.99, pictures=2000)
    found, predictions, _ = answered(
        *(tmp_path, lambda _: ["1"]), count=300, labeled=0, energy=energy, reference=REFERENCE
    )
    if known:
        assert found.estimated == pytest.approx(predictions.probabilities.max(axis=1).mean())
        assert found.not_estimated == ""
    else:
        assert found.estimated is None
        assert found.not_estimated == "only 0.0% of the images are known; at least 95% are needed"
    assert found.measures == {}
    assert found.alarm is False
