"""Metrics against scikit-learn's, and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import logsumexp
from sklearn import metrics as reference

from logitserve.inference import heads
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictions
from logitserve_training import evaluate
from logitserve_training.datasets.dataset import Classes
from logitserve_training.evaluate import Evaluation, Floats

CLASS_COUNTS = st.integers(2, 6)


def probabilities_and_classes(seed: int, labels: int) -> tuple[Floats, Classes]:
    """Forty rows of a classifier that is right more often than not."""
    generator = np.random.default_rng(seed)
    classes = np.concatenate([np.arange(labels), generator.integers(0, labels, 40 - labels)])
    logits = generator.normal(size=(40, labels)) + 1.5 * np.eye(labels)[classes]
    return heads.softmax(logits), classes.astype(np.int64)


@given(seed=st.integers(0, 10_000), labels=CLASS_COUNTS)
def test_metrics_are_those_of_scikit_learn(seed: int, labels: int) -> None:
    probabilities, classes = probabilities_and_classes(seed, labels)
    predicted = probabilities.argmax(axis=1)
    assert evaluate.negative_log_likelihood(probabilities, classes) == pytest.approx(
        reference.log_loss(classes, probabilities)
    )
    assert evaluate.brier_score(probabilities, classes) == pytest.approx(
        reference.brier_score_loss(
            classes, probabilities, labels=range(labels), scale_by_half=False
        )
    )
    confusion = evaluate.confusion_matrix(classes, predicted, labels=labels)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(classes, predicted))


@given(seed=st.integers(0, 10_000))
def test_precision_recall_and_f1_are_those_of_scikit_learn(seed: int) -> None:
    probabilities, classes = probabilities_and_classes(seed, 2)
    predicted = probabilities.argmax(axis=1)
    found = evaluate.precision_recall_f1(evaluate.confusion_matrix(classes, predicted, labels=2))
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        classes, predicted, average="binary", zero_division=0
    )
    assert found == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_precision_recall_and_f1_are_0_where_nothing_is_yes() -> None:
    found = evaluate.precision_recall_f1(np.array([[5, 0], [0, 0]]))
    assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("confidences", "is_right", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 1], 0.0),
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 0], 0.25),
        # one bin (0.6, 0.667]: mean confidence 0.63, half of them right
        ([0.62, 0.64], [1, 0], 0.13),
        # the bins (0.533, 0.6] and (0.6, 0.667] on their own: gaps 0.4 and 0.64 do not cancel
        ([0.6, 0.64], [1, 0], (0.4 + 0.64) / 2),
    ],
)
def test_calibration_error_by_hand(
    confidences: list[float], is_right: list[int], expected: float
) -> None:
    probabilities = np.array([[confidence, 1 - confidence] for confidence in confidences])
    classes = 1 - np.array(is_right)
    found = evaluate.expected_calibration_error(probabilities, classes)
    assert found == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), labels=CLASS_COUNTS)
def test_calibration_error_lies_between_the_whole_gap_and_1(seed: int, labels: int) -> None:
    probabilities, classes = probabilities_and_classes(seed, labels)
    is_right = probabilities.argmax(axis=1) == classes
    whole_gap = abs(probabilities.max(axis=1).mean() - is_right.mean())
    found = evaluate.expected_calibration_error(probabilities, classes)
    assert whole_gap - 1e-12 <= found <= 1


def test_a_truth_held_impossible_costs_much_but_is_finite() -> None:
    found = evaluate.negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert 700 < found < 710


def test_an_evaluation_of_yes_or_no_has_precision_and_recall_too() -> None:
    logits = np.array([[2.0], [-1.0], [0.5], [-3.0]])
    predictions = Predictions(
        logits=logits.astype(np.float32),
        probabilities=heads.probabilities(Head.BINARY, logits),
        argmax=heads.argmax(Head.BINARY, logits),
    )
    evaluation = Evaluation(predictions, np.array([1, 1, 0, 0]))
    assert evaluation.confusion is not None
    assert evaluation.confusion.tolist() == [[1, 1], [1, 1]]
    assert evaluation.metrics == pytest.approx(
        {
            "accuracy": 0.5,
            "nll": 0.6157, "brier": 0.4692, "ece": 0.3800,
            "precision": 0.5,
            "recall": 0.5,
            "f1": 0.5,
        },
        abs=1e-4,
    )  # fmt: skip


@given(hnp.arrays(np.float64, (3, 7), elements=st.floats(-700, 700)), st.floats(0.1, 10))
def test_energy_is_minus_temperature_times_logsumexp(logits: Floats, temperature: float) -> None:
    found = evaluate.energies(logits / temperature, temperature)
    expected = -temperature * logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
