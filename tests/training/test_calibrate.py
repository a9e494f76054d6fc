"""What held-out pictures add to a card."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logsumexp, softmax
from sklearn.metrics import log_loss

from logitserve.inference import heads, ink
from logitserve.inference.card import COVERAGES, Fit, Head, ModelCard
from logitserve_training import calibrate
from logitserve_training.drawings import draw
from logitserve_training.statistics import thresholds
from logitserve_training.statistics.calibration import Calibrator
from tests.tiny_models import SPEC, card_for, weights
from tests.training.statistics.test_calibration import LABELS, sigmoid_sample, softmax_sample

DIGITS = np.stack([np.asarray(draw(seed % 10, seed=seed))[..., :1] for seed in range(30)])


def card(head: Head = Head.SOFTMAX, **fields: Any) -> ModelCard:
    labels = LABELS[:2] if head is Head.BINARY else LABELS
    width = 1 if head is Head.BINARY else len(labels)
    spec = SPEC.model_copy(update={"fit": Fit.DIGIT})
    return card_for(weights(spec, width, seed=0), head=head, labels=labels, spec=spec, **fields)


def calibrated(made: ModelCard, logits: Any, truth: Any) -> ModelCard:
    return calibrate.calibrate(made, logits, truth, DIGITS)


def test_an_overconfident_network_is_calibrated() -> None:
    logits, classes = softmax_sample(sharpness=3.0)
    found = calibrated(card(), logits, classes)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.calibration is not None
    assert found.calibration.pictures == len(logits)
    before, after = found.calibration.before, found.calibration.after
    assert before.nll == pytest.approx(log_loss(classes, softmax(logits, axis=1)))
    assert after.nll < before.nll
    assert after.brier < before.brier
    assert after.ece < 0.03
    assert before.ece > 0.1


def test_a_network_that_is_right_already_is_nearly_left_alone() -> None:
    found = calibrated(card(), *softmax_sample(2_000))
    assert found.temperature == pytest.approx(1, abs=0.05)
    assert found.scaling is None
    assert found.calibration is not None
    assert found.conformal is not None


def test_what_is_fitted_to_few_pictures_changes_little() -> None:
    logits, classes = softmax_sample(5)
    found = calibrated(card(), logits, classes)
    assert found.temperature == pytest.approx(1.0, abs=0.5)
    assert found.conformal is not None
    assert COVERAGES[len(found.conformal.thresholds) - 1] == 0.83  # 5 of 6
    assert found.conformal.thresholds_by_label == ((), (), (), ())
    assert found.energy is None
    assert found.ink is None


def test_binary_models_are_scaled_and_know_ink_but_no_energy() -> None:
    logits, outcomes = sigmoid_sample(4_000, 0.4, -1.0)
    found = calibrated(card(Head.BINARY), logits[:, None], outcomes)
    assert found.temperature == 1.0
    assert found.scaling is not None
    assert found.scaling[0].scale == pytest.approx(0.4, abs=0.05)
    assert found.scaling[0].bias == pytest.approx(-1.0, abs=0.1)
    assert found.conformal is not None
    assert found.energy is None
    assert found.ink == ink.ranges(DIGITS, found.input)


def test_thresholds_are_of_the_calibrated_probabilities() -> None:
    columns = [
        sigmoid_sample(2_000, scale, bias, seed=seed)
        for seed, (scale, bias) in enumerate([(0.3, 0.0), (2.0, 1.0), (0.5, -1.0), (1.0, 2.0)])
    ]
    logits = np.stack([z for z, _ in columns], axis=1)
    outcomes = np.stack([y for _, y in columns], axis=1)
    found = calibrated(card(Head.SIGMOID, thresholds=(0.5,) * 4), logits, outcomes)
    assert (found.conformal, found.energy, found.ink) == (None, None, None)
    probabilities = heads.sigmoid(heads.calibrated(logits, found))
    assert found.thresholds == thresholds.best(probabilities)
    assert calibrated(found, logits, outcomes) == found


def test_the_scores_of_many_labels_are_means_over_them() -> None:
    logits = np.array([[2.0, -1.0], [0.5, 0.3]])
    outcomes = np.array([[1, 0], [0, 1]])
    found = calibrate.scores(Head.SIGMOID, logits, Calibrator(), outcomes)
    p = expit(logits)
    assert found.nll == pytest.approx(log_loss(outcomes.ravel(), p.ravel()))
    assert found.brier == pytest.approx(np.mean((p - outcomes) ** 2))


@pytest.mark.parametrize("count", [98, 99, 1_000])
def test_the_energy_threshold_knows_99_of_100_or_is_not_there(count: int) -> None:
    logits, classes = softmax_sample(count, sharpness=3.0)
    found = calibrated(card(), logits, classes)
    if count < 99:
        assert found.energy is None
        return
    assert found.energy is not None
    temperature = found.temperature
    energies = -temperature * logsumexp(logits / temperature, axis=1)
    rank = int(np.ceil((count + 1) * 0.99 - 1e-9))
    assert found.energy.threshold == pytest.approx(np.sort(energies)[rank - 1])
