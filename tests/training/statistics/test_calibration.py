"""Calibration against scikit-learn and scipy, and on logits whose right scale is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from logitserve.inference import heads
from logitserve.inference.card import Head, LabelScaling
from logitserve_training.errors import CalibrationError
from logitserve_training.statistics import calibration
from logitserve_training.statistics.calibration import Calibrator, Floats, Truth
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


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5])
def test_the_temperature_undoes_what_sharpened_the_logits(sharpness: float) -> None:
    logits, classes = softmax_sample(10_000, sharpness=sharpness)
    assert calibration.fit_temperature(logits, classes) == pytest.approx(sharpness, rel=0.05)


@given(seed=st.integers(0, 1000), sharpness=st.floats(0.3, 4), count=st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_no_other_temperature_has_a_higher_posterior(
    seed: int, sharpness: float, count: int
) -> None:
    logits, classes = softmax_sample(count, sharpness=sharpness, seed=seed)
    found = calibration.fit_temperature(logits, classes)

    def cost(temperature: float) -> float:
        said = softmax(logits / temperature, axis=1)
        nll = log_loss(classes, said, labels=range(4), normalize=False)
        return float(nll + (np.log(temperature) / 0.5) ** 2 / 2)

    grid = np.exp(np.linspace(-2, 2, 40))
    assert cost(found) <= min(map(cost, grid)) + 1e-9


def test_a_network_that_makes_no_mistake_on_few_pictures_is_nearly_left_alone() -> None:
    logits = 5 * np.eye(4)
    assert 0.7 < calibration.fit_temperature(logits, np.arange(4)) < 1
    assert 0.3 < calibration.fit_temperature(np.tile(logits, (50, 1)), np.tile(range(4), 50)) < 0.7


def test_a_fit_that_ends_at_the_edge_of_its_range_is_an_error() -> None:
    logits = np.full((5_000, 1), -300.0) * [1, -1]
    with pytest.raises(CalibrationError, match="the edge of its range"):
        calibration.fit_temperature(logits, np.zeros(5_000, np.int64))


def test_each_label_is_scaled_on_its_own() -> None:
    right, wrong = sigmoid_sample(4_000, 1.0, 0.0), sigmoid_sample(4_000, 0.4, -1.0, seed=2)
    logits, outcomes = (np.stack(columns, axis=1) for columns in zip(right, wrong, strict=True))
    found = Calibrator.fitted(Head.SIGMOID, logits, outcomes).scaling
    assert found == (calibration.fit_scaling(*right), calibration.fit_scaling(*wrong))
    alone = Calibrator.fitted(Head.BINARY, right[0][:, None], right[1])
    assert alone == Calibrator(scaling=found[:1])


@given(seed=st.integers(0, 1000), scale=st.floats(0.3, 3), bias=st.floats(-2, 2))
@settings(max_examples=15, deadline=None)
def test_scaling_of_many_pictures_is_logistic_regression(
    seed: int, scale: float, bias: float
) -> None:
    """scikit-learn's, on the outcomes as they are."""
    logits, outcomes = sigmoid_sample(20_000, scale, bias, seed=seed)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], outcomes)
    found = calibration.fit_scaling(logits, outcomes)
    assert found.scale == pytest.approx(reference.coef_[0, 0], rel=0.02)
    assert found.bias == pytest.approx(reference.intercept_[0], rel=0.02, abs=0.02)


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_label_that_always_or_never_holds_gets_a_finite_scaling(outcome: int) -> None:
    logits = np.random.default_rng(0).normal(size=50)
    found = calibration.fit_scaling(logits, np.full(50, outcome))
    probabilities = expit(found.scale * logits + found.bias)
    assert 0.01 < abs(probabilities - outcome).mean() < 0.3


@pytest.mark.parametrize("head", [Head.SOFTMAX, Head.BINARY, Head.SIGMOID])
def test_certain_and_right_costs_nothing_and_not_minus_nothing(head: Head) -> None:
    logits = np.array([[2000.0, -2000.0]])[:, : 1 if head is Head.BINARY else 2]
    truth = {Head.SOFTMAX: [0], Head.BINARY: [1], Head.SIGMOID: [[1, 0]]}[head]
    (loss,) = calibration.losses(head, logits, np.array(truth))
    assert f"{loss:.4f}" == "0.0000"


def test_losses_are_those_of_scipy() -> None:
    logits, classes = softmax_sample(50)
    np.testing.assert_allclose(
        calibration.losses(Head.SOFTMAX, logits, classes),
        -log_softmax(logits, axis=1)[np.arange(50), classes],
    )
    outcomes = (logits > 1).astype(np.int64)
    p = expit(logits)
    np.testing.assert_allclose(
        calibration.losses(Head.SIGMOID, logits, outcomes),
        -np.log(np.where(outcomes == 1, p, 1 - p)).mean(axis=1),
    )
    np.testing.assert_allclose(
        calibration.losses(Head.BINARY, logits[:, :1], outcomes[:, 0]),
        -np.log(np.where(outcomes == 1, p, 1 - p))[:, 0],
    )


@given(st.floats(0.02, 50), st.floats(-50, 50))
def test_a_calibrator_does_what_the_card_does(scale: float, bias: float) -> None:
    scaling = (LabelScaling(scale=scale, bias=bias),)
    logits = np.array([[1.5], [-2.0]])
    card = card_for(
        weights(SPEC, 1, seed=0), head=Head.BINARY, labels=("no", "yes"), scaling=scaling
    )
    np.testing.assert_array_equal(
        Calibrator(scaling=scaling)(logits), heads.calibrated(logits, card)
    )


@given(hnp.arrays(np.float64, (3, 7), elements=st.floats(-700, 700)), st.floats(0.1, 10))
def test_energy_is_minus_temperature_times_logsumexp(logits: Floats, temperature: float) -> None:
    found = calibration.energies(logits / temperature, temperature)
    expected = -temperature * logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
