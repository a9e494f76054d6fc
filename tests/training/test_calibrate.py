"""Calibration against scikit-learn and scipy, and on logits whose right scale is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from logitserve.inference import heads
from logitserve.inference.card import Head, LabelScaling, ModelCard
from logitserve_training import calibrate
from logitserve_training.calibrate import Calibrator, Truth
from logitserve_training.evaluate import Floats
from tests.tiny_models import SPEC, card_for, weights

LABELS = ("a", "b", "c", "d")


def softmax_sample(
    count: int = 2_000, *, sharpness: float = 1.0, seed: int = 0
) -> tuple[Floats, Truth]:
    """Logits z·sharpness where the classes follow softmax(z): the right temperature is known."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, len(LABELS)))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    classes = (generator.random((count, 1)) > cumulative[:, :-1]).sum(axis=1)
    return sharpness * logits, classes


def sigmoid_sample(
    count: int, scale: float, bias: float, *, seed: int = 0
) -> tuple[npt.NDArray[np.float64], Truth]:
    """Logits z where the outcomes follow sigmoid(scale·z + bias)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, count)
    return logits, (generator.random(count) < expit(scale * logits + bias)).astype(np.int64)


def card(head: Head = Head.SOFTMAX, thresholds: tuple[float, ...] | None = None) -> ModelCard:
    labels = LABELS[:2] if head is Head.BINARY else LABELS
    width = 1 if head is Head.BINARY else len(labels)
    return card_for(weights(SPEC, width, seed=0), head=head, labels=labels, thresholds=thresholds)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5])
def test_the_temperature_undoes_what_sharpened_the_logits(sharpness: float) -> None:
    logits, classes = softmax_sample(10_000, sharpness=sharpness)
    assert calibrate.fit_temperature(logits, classes) == pytest.approx(sharpness, rel=0.05)


@given(seed=st.integers(0, 1000), sharpness=st.floats(0.3, 4))
@settings(max_examples=15)
def test_no_other_temperature_has_a_higher_likelihood(seed: int, sharpness: float) -> None:
    logits, classes = softmax_sample(300, sharpness=sharpness, seed=seed)
    found = calibrate.fit_temperature(logits, classes)

    def nll(temperature: float) -> float:
        return float(log_loss(classes, softmax(logits / temperature, axis=1), labels=range(4)))

    grid = np.exp(np.linspace(-2, 2, 20))
    assert nll(found) <= min(map(nll, grid)) + 1e-9


def test_a_network_that_makes_no_mistake_keeps_a_finite_temperature() -> None:
    logits = 5 * np.eye(4)
    assert 0.04 < calibrate.fit_temperature(logits, np.arange(4)) < 0.2  # where the loss is 0


@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.2, 3),
    bias=st.floats(-2, 2),
)
@settings(max_examples=15)
def test_scaling_is_logistic_regression_on_the_logit(seed: int, scale: float, bias: float) -> None:
    """scikit-learn's, given Platt's targets as weighted outcomes of both kinds."""
    logits, outcomes = sigmoid_sample(400, scale, bias, seed=seed)
    yes = outcomes.sum()
    targets = np.where(outcomes == 1, (yes + 1) / (yes + 2), 1 / (len(logits) - yes + 2))
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    found = calibrate.fit_scaling(logits, outcomes)
    assert found.scale == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert found.bias == pytest.approx(reference.intercept_[0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_label_that_always_or_never_holds_gets_a_finite_scaling(outcome: int) -> None:
    logits = np.random.default_rng(0).normal(size=50)
    found = calibrate.fit_scaling(logits, np.full(50, outcome))
    probabilities = expit(found.scale * logits + found.bias)
    assert abs(probabilities - outcome).max() < 0.1


def test_losses_are_those_of_scipy() -> None:
    logits, classes = softmax_sample(50)
    np.testing.assert_allclose(
        calibrate.losses(Head.SOFTMAX, logits, classes),
        -log_softmax(logits, axis=1)[np.arange(50), classes],
    )
    outcomes = (logits > 1).astype(np.int64)
    p = expit(logits)
    np.testing.assert_allclose(
        calibrate.losses(Head.SIGMOID, logits, outcomes),
        -np.log(np.where(outcomes == 1, p, 1 - p)).mean(axis=1),
    )
    np.testing.assert_allclose(
        calibrate.losses(Head.BINARY, logits[:, :1], outcomes[:, 0]),
        -np.log(np.where(outcomes == 1, p, 1 - p))[:, 0],
    )


def test_an_overconfident_network_is_calibrated() -> None:
    logits, classes = softmax_sample(sharpness=3.0)
    found = calibrate.calibrate(card(), logits, classes)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.calibration is not None
    assert found.calibration.kept
    assert found.calibration.pictures == len(logits)
    before, after = found.calibration.before, found.calibration.after
    assert before.nll == pytest.approx(log_loss(classes, softmax(logits, axis=1)))
    assert after.nll < before.nll
    assert after.brier < before.brier
    assert after.ece < 0.03
    assert before.ece > 0.1


def test_a_network_that_is_right_already_is_left_alone() -> None:
    logits, classes = softmax_sample()
    found = calibrate.calibrate(card(), logits, classes)
    assert found.temperature == 1.0
    assert found.calibration is not None
    assert not found.calibration.kept
    assert found.calibration.gain < found.calibration.gain_error


def test_what_is_fitted_to_few_pictures_is_not_trusted() -> None:
    logits, classes = softmax_sample(1)
    found = calibrate.calibrate(card(), logits, classes)
    assert found.temperature == 1.0
    assert found.conformal is not None
    assert set(found.conformal.thresholds[1:]) == {1.0}


def test_binary_models_are_scaled_and_have_sets_but_no_energy() -> None:
    logits, outcomes = sigmoid_sample(4_000, 0.4, -1.0)
    found = calibrate.calibrate(card(Head.BINARY), logits[:, None], outcomes)
    assert found.temperature == 1.0
    assert found.scaling is not None
    assert found.scaling[0].scale == pytest.approx(0.4, abs=0.05)
    assert found.scaling[0].bias == pytest.approx(-1.0, abs=0.1)
    assert found.conformal is not None
    assert found.energy is None


def test_scaled_thresholds_let_the_same_labels_hold() -> None:
    columns = [
        sigmoid_sample(2_000, scale, bias, seed=seed)
        for seed, (scale, bias) in enumerate([(0.3, 0.0), (2.0, 1.0), (0.5, -1.0), (1.0, 2.0)])
    ]
    logits = np.stack([z for z, _ in columns], axis=1)
    outcomes = np.stack([y for _, y in columns], axis=1)
    raw = card(Head.SIGMOID, (0.5, 0.2, 0.8, 0.0))
    found = calibrate.calibrate(raw, logits, outcomes)
    assert found.conformal is None
    assert found.energy is None
    again = calibrate.calibrate(found, logits, outcomes)
    assert again.scaling == found.scaling
    for calibrated in (found, again):
        assert calibrated.scaling is not None
        np.testing.assert_array_equal(
            heads.sigmoid(heads.calibrated(logits, calibrated)) >= heads.thresholds(calibrated),
            expit(logits) >= np.array(raw.thresholds),
        )


def test_the_scores_of_many_labels_are_means_over_them() -> None:
    logits = np.array([[2.0, -1.0], [0.5, 0.3]])
    outcomes = np.array([[1, 0], [0, 1]])
    found = calibrate.scores(Head.SIGMOID, logits, outcomes)
    p = expit(logits)
    assert found.nll == pytest.approx(log_loss(outcomes.ravel(), p.ravel()))
    assert found.brier == pytest.approx(np.mean((p - outcomes) ** 2))


def test_the_energy_threshold_knows_99_of_100() -> None:
    logits, classes = softmax_sample(1_000, sharpness=3.0)
    found = calibrate.calibrate(card(), logits, classes)
    assert found.energy is not None
    temperature = found.temperature
    energies = -temperature * logsumexp(logits / temperature, axis=1)
    assert found.energy.threshold == pytest.approx(np.sort(energies)[990])
    assert found.energy.known_share == pytest.approx(0.991)


@given(st.floats(0.02, 50), st.floats(-50, 50))
def test_a_calibrator_does_what_the_card_does(scale: float, bias: float) -> None:
    scaling = (LabelScaling(scale=scale, bias=bias),)
    logits = np.array([[1.5], [-2.0]])
    calibrated = card(Head.BINARY).model_copy(update={"scaling": scaling})
    np.testing.assert_array_equal(
        Calibrator(scaling=scaling)(logits), heads.calibrated(logits, calibrated)
    )
