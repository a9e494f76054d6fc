"""Metrics against scikit-learn's, and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from logitserve.inference import heads
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictions
from logitserve_training.datasets.dataset import Classes
from logitserve_training.evaluate import Evaluation
from logitserve_training.statistics.calibration import Floats

CLASS_COUNTS = st.integers(2, 6)


def probabilities_and_classes(seed: int, labels: int) -> tuple[Floats, Classes]:
    """Forty rows of a classifier that is right more often than not."""
    generator = np.random.default_rng(seed)
    classes = np.concatenate([np.arange(labels), generator.integers(0, labels, 40 - labels)])
    logits = generator.normal(size=(40, labels)) + 1.5 * np.eye(labels)[classes]
    return heads.softmax(logits), classes.astype(np.int64)


def evaluated(probabilities: Floats, classes: Classes) -> Evaluation:
    argmax = probabilities.argmax(axis=1)
    said = Predictions(np.log(probabilities).astype(np.float32), probabilities, argmax)
    return Evaluation(Head.SOFTMAX, said, classes)


@given(seed=st.integers(0, 10_000), labels=CLASS_COUNTS)
def test_metrics_are_those_of_scikit_learn(seed: int, labels: int) -> None:
    probabilities, classes = probabilities_and_classes(seed, labels)
    predicted = probabilities.argmax(axis=1)
    found = evaluated(probabilities, classes)
    assert found.metrics["nll"] == pytest.approx(reference.log_loss(classes, probabilities))
    assert found.metrics["brier"] == pytest.approx(
        reference.brier_score_loss(
            classes, probabilities, labels=range(labels), scale_by_half=False
        )
    )
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, reference.confusion_matrix(classes, predicted))


@given(seed=st.integers(0, 10_000))
def test_precision_recall_and_f1_are_those_of_scikit_learn(seed: int) -> None:
    probabilities, classes = probabilities_and_classes(seed, 2)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        classes, probabilities.argmax(axis=1), average="binary", zero_division=0
    )
    found = evaluated(probabilities, classes).metrics
    expected = {"precision": precision, "recall": recall, "f1": f1}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_precision_recall_and_f1_are_0_where_nothing_is_yes() -> None:
    found = evaluated(np.array([[0.9, 0.1]] * 5), np.zeros(5, np.int64)).metrics
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)


def test_a_truth_held_impossible_costs_much_but_is_finite() -> None:
    with np.errstate(divide="ignore"):
        found = evaluated(np.array([[1.0, 0.0]]), np.array([1])).metrics["nll"]
    assert 700 < found < 710


def test_nine_of_nine_are_not_certain() -> None:
    found = evaluated(np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]] * 3), np.array([0, 1, 1] * 3))
    assert (found.metrics["accuracy"], found.metrics["f1"]) == pytest.approx((1.0, 1.0))
    assert found.intervals.keys() == found.metrics.keys()
    for name in ("accuracy", "f1", "precision", "recall"):
        assert found.intervals[name] == pytest.approx((0.7009, 1.0), abs=1e-4)


def test_intervals_hold_the_figures() -> None:
    found = evaluated(*probabilities_and_classes(3, 4))
    for name, (low, high) in found.intervals.items():
        if name != "ece":  # which resampling moves upwards
            assert low < found.metrics[name] < high


def test_an_evaluation_of_yes_or_no_has_precision_and_recall_too() -> None:
    logits = np.array([[2.0], [-1.0], [0.5], [-3.0]])
    predictions = Predictions(
        logits=logits.astype(np.float32),
        probabilities=heads.probabilities(Head.BINARY, logits),
        argmax=heads.argmax(Head.BINARY, logits),
    )
    evaluation = Evaluation(Head.BINARY, predictions, np.array([1, 1, 0, 0]))
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
