"""Prediction sets: by hand, as properties, and against the coverage that they promise."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from logitserve.inference import conformal
from logitserve.inference.card import COVERAGE_STEPS, Conformal, Head, ModelCard
from logitserve.inference.errors import CoverageError
from tests.tiny_models import SPEC, card_for, weights

Floats = npt.NDArray[np.float64]


def card(conformal: Conformal | None, **fields: Any) -> ModelCard:
    return card_for(weights(SPEC, 3, seed=0), labels=("a", "b", "c"), conformal=conformal, **fields)


def logits_of(probabilities: list[list[float]]) -> npt.NDArray[np.float32]:
    logits: npt.NDArray[np.float64] = np.log(np.array(probabilities))
    return logits.astype(np.float32)


def test_scores_by_hand() -> None:
    found = conformal.scores(np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(found, [[0.5, -0.7, 0.8], [-0.5, 0.0, 1.0]])


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-50, 50)))
def test_scores_rise_as_probabilities_fall(logits: Floats) -> None:
    probabilities = softmax(logits, axis=1)
    found = conformal.scores(probabilities)
    assert ((found >= -1) & (found <= 1)).all()
    for row, by_label in zip(probabilities, found, strict=True):
        order = np.argsort(-row, kind="stable")
        assert (np.diff(by_label[order]) >= -1e-12).all()


def test_the_threshold_is_the_order_statistic_of_split_conformal_prediction() -> None:
    generator = np.random.default_rng(1)
    true_scores = generator.permutation(np.linspace(-1, 1, 99))
    found = conformal.calibrate(true_scores)
    assert found.pictures == 99
    ascending = np.sort(true_scores)
    assert found.thresholds[0] == ascending[50 - 1]  # ⌈100 × 0.5⌉ = 50
    assert found.thresholds[400] == ascending[90 - 1]  # ⌈100 × 0.9⌉ = 90
    assert found.thresholds[401] == ascending[91 - 1]
    assert found.thresholds[490] == ascending[99 - 1]
    assert found.thresholds[491] == 1.0  # ⌈100 × 0.991⌉ = 100 of 99: every label


@given(st.integers(1, 60), st.integers(0, 1000))
def test_thresholds_of_any_number_of_scores_make_a_card(count: int, seed: int) -> None:
    true_scores = np.random.default_rng(seed).uniform(-1, 1, count)
    thresholds = conformal.calibrate(true_scores).thresholds
    assert len(thresholds) == COVERAGE_STEPS
    assert sorted(thresholds) == list(thresholds)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_sets_hold_the_truth_as_often_as_asked_also_when_probabilities_are_wrong(
    coverage: float, sharpness: float
) -> None:
    """The labels are drawn from softmax(z); a model that says softmax(sharpness·z) still covers."""
    generator = np.random.default_rng(7)
    logits = generator.normal(0, 2, (40_000, 3))
    truth = np.array([generator.choice(3, p=row) for row in softmax(logits, axis=1)])
    said = (sharpness * logits).astype(np.float32)
    half = len(said) // 2
    true_scores = conformal.scores(softmax(said[:half].astype(np.float64), axis=1))
    made = conformal.calibrate(true_scores[np.arange(half), truth[:half]])
    sets = conformal.prediction_sets(card(made), said[half:], coverage)
    covered = np.mean([label in chosen for label, chosen in zip(truth[half:], sets, strict=True)])
    assert covered == pytest.approx(coverage, abs=4 * (coverage * (1 - coverage) / half * 2) ** 0.5)


def test_a_set_names_the_most_probable_first_and_may_be_empty() -> None:
    sure, unsure = np.linspace(-0.99, -0.5, 800), np.linspace(0, 1, 200)
    made = conformal.calibrate(np.concatenate([sure, unsure]))
    logits = logits_of([[0.2, 0.7, 0.1], [0.01, 0.01, 0.98], [0.3, 0.3, 0.4]])
    assert conformal.prediction_sets(card(made), logits, 0.6) == [[1], [2], []]
    assert conformal.prediction_sets(card(made), logits, 0.95) == [[1, 0], [2], [2, 0, 1]]


def test_sets_are_of_calibrated_probabilities() -> None:
    made = conformal.calibrate(np.linspace(-0.8, 0.6, 1000))
    logits = logits_of([[0.2, 0.7, 0.1]])
    assert conformal.prediction_sets(card(made), logits, 0.85) == [[1]]
    assert conformal.prediction_sets(card(made, temperature=4.0), logits, 0.85) == [[1, 0]]


def test_between_two_coverages_the_larger_counts() -> None:
    made = Conformal(pictures=9, thresholds=tuple(np.linspace(-1, 1, COVERAGE_STEPS)))
    logits = np.random.default_rng(0).normal(0, 2, (5000, 3)).astype(np.float32)

    def sets(coverage: float) -> list[list[int]]:
        return conformal.prediction_sets(card(made), logits, coverage)

    assert sets(0.5731) == sets(0.574) != sets(0.573)
    assert sets(0.9) == sets(0.5 + 0.4)
    assert sets(0.999) == [
        row.tolist() for row in np.argsort(-logits, axis=1, kind="stable")
    ]  # every label


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999))
def test_more_coverage_means_the_same_set_or_a_larger(one: float, other: float) -> None:
    made = conformal.calibrate(np.random.default_rng(0).uniform(-1, 1, 300))
    logits = np.random.default_rng(1).normal(0, 2, (20, 3)).astype(np.float32)
    less, more = (
        conformal.prediction_sets(card(made), logits, coverage) for coverage in sorted((one, other))
    )
    assert all(large[: len(small)] == small for small, large in zip(less, more, strict=True))


def test_binary_models_have_sets_of_their_two_labels() -> None:
    binary = card_for(
        weights(SPEC, 1, seed=0),
        head=Head.BINARY,
        labels=("no", "yes"),
        conformal=conformal.calibrate(np.linspace(-1, 0.5, 1000)),
    )
    logits = np.array([[-4.0], [0.1], [3.0]], np.float32)
    assert conformal.prediction_sets(binary, logits, 0.9) == [[0], [1, 0], [1]]


@pytest.mark.parametrize("coverage", [0.4999, 0.9991, 1.0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_coverage_outside_the_range_is_refused(coverage: float) -> None:
    made = conformal.calibrate(np.zeros(5))
    with pytest.raises(CoverageError, match=r"coverage must be from 0\.5 to 0\.999"):
        conformal.check(card(made), coverage)


def test_models_without_sets_say_so() -> None:
    with pytest.raises(CoverageError, match="no conformal thresholds"):
        conformal.check(card(None), 0.9)
    sigmoid = card(None, head=Head.SIGMOID, thresholds=(0.5,) * 3)
    with pytest.raises(CoverageError, match="any number of its labels may hold"):
        conformal.check(sigmoid, 0.9)
