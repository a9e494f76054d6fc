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
from logitserve.inference.card import COVERAGES, Conformal, Head, ModelCard
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


def of_all(true_scores: Floats) -> Conformal:
    """Of pictures whose labels are not looked at on their own."""
    found = conformal.calibrate(true_scores, np.zeros(len(true_scores), np.int64), 3)
    return without_labels(found)


def without_labels(found: Conformal) -> Conformal:
    return Conformal(**found.model_dump() | {"thresholds_by_label": ((), (), ())})


def test_the_threshold_is_the_order_statistic_of_split_conformal_prediction() -> None:
    generator = np.random.default_rng(1)
    true_scores = generator.permutation(np.linspace(-1, 1, 99).round(6))
    found = of_all(true_scores)
    assert found.pictures == 99
    assert found.pictures_by_label == (99, 0, 0)
    ascending = np.sort(true_scores)
    steps = {coverage: step for step, coverage in enumerate(COVERAGES)}
    for coverage, rank in ((0.5, 50), (0.9, 90), (0.91, 91), (0.99, 99)):  # ⌈100 × coverage⌉
        assert found.thresholds[steps[coverage]] == pytest.approx(ascending[rank - 1], abs=1e-6)
    assert len(found.thresholds) == steps[0.99] + 1  # ⌈100 × 0.991⌉ = 100 of 99


@given(st.integers(1, 60), st.integers(0, 1000))
def test_thresholds_of_any_number_of_scores_make_a_card(count: int, seed: int) -> None:
    true_scores = np.random.default_rng(seed).uniform(-1, 1, count)
    found = of_all(true_scores)
    largest = COVERAGES[len(found.thresholds) - 1]
    assert largest <= count / (count + 1) + 1e-9
    assert sorted(found.thresholds) == list(found.thresholds)
    with pytest.raises(CoverageError, match=rf"and the model has {count}; use at most {largest:g}"):
        conformal.check(card(found), 0.999)


@given(st.integers(1, 400), st.floats(0.5, 0.999))
def test_a_quantile_is_exceeded_as_seldom_as_was_asked_or_is_refused(
    count: int, coverage: float
) -> None:
    values = np.random.default_rng(count).permutation(count).astype(float)
    found = conformal.quantile(values, coverage)
    if found is None:
        assert count < coverage / (1 - coverage) + 1e-6
    else:  # of count + 1 places for one more, so many are at or below it
        assert (found + 1) / (count + 1) >= coverage - 1e-9


def test_each_label_is_held_as_often_as_was_asked() -> None:
    """The second label is rare and hard: one threshold for all leaves most of it out."""
    generator = np.random.default_rng(3)

    def drawn(count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        classes = generator.choice(3, count, p=[0.9, 0.08, 0.02])
        signal = np.array([4.0, 1.0, 1.0])[classes][:, None] * np.eye(3)[classes]
        return (generator.normal(0, 1, (count, 3)) + signal).astype(np.float32), classes

    logits, classes = drawn(2_000)
    by_label = conformal.scores(softmax(logits.astype(np.float64), axis=1))
    found = conformal.calibrate(by_label[np.arange(2_000), classes], classes, 3)
    assert [len(row) > 0 for row in found.thresholds_by_label] == [True, True, False]  # 40 of it
    logits, classes = drawn(40_000)
    sets = conformal.prediction_sets(card(found), logits, 0.9)
    held = np.array([label in chosen for label, chosen in zip(classes, sets, strict=True)])
    assert held[classes == 0].mean() == pytest.approx(0.9, abs=0.03)
    assert held[classes == 1].mean() == pytest.approx(0.9, abs=0.08)
    marginal = card(without_labels(found))
    sets = conformal.prediction_sets(marginal, logits, 0.9)
    held = np.array([label in chosen for label, chosen in zip(classes, sets, strict=True)])
    assert held[classes == 1].mean() < 0.7


@given(st.floats(0.5, 0.99))
def test_the_most_probable_label_is_in_every_set_where_that_is_asked(coverage: float) -> None:
    made = of_all(np.random.default_rng(0).uniform(-1, -0.5, 300))
    logits = np.random.default_rng(1).normal(0, 1, (50, 3)).astype(np.float32)
    some = conformal.prediction_sets(card(made), logits, coverage)
    every = conformal.prediction_sets(card(made), logits, coverage, allow_empty=False)
    for logit, less, more in zip(logits, some, every, strict=True):
        assert more == (less or [int(logit.argmax())])


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
    made = conformal.calibrate(true_scores[np.arange(half), truth[:half]], truth[:half], 3)
    sets = conformal.prediction_sets(card(made), said[half:], coverage)
    covered = np.mean([label in chosen for label, chosen in zip(truth[half:], sets, strict=True)])
    assert covered == pytest.approx(coverage, abs=4 * (coverage * (1 - coverage) / half * 2) ** 0.5)


def test_a_set_names_the_most_probable_first_and_may_be_empty() -> None:
    sure, unsure = np.linspace(-0.99, -0.5, 800), np.linspace(0, 1, 200)
    made = of_all(np.concatenate([sure, unsure]))
    logits = logits_of([[0.2, 0.7, 0.1], [0.01, 0.01, 0.98], [0.3, 0.3, 0.4]])
    assert conformal.prediction_sets(card(made), logits, 0.6) == [[1], [2], []]
    assert conformal.prediction_sets(card(made), logits, 0.95) == [[1, 0], [2], [2, 0, 1]]


def test_sets_are_of_calibrated_probabilities() -> None:
    made = of_all(np.linspace(-0.8, 0.6, 1000))
    logits = logits_of([[0.2, 0.7, 0.1]])
    assert conformal.prediction_sets(card(made), logits, 0.85) == [[1]]
    assert conformal.prediction_sets(card(made, temperature=4.0), logits, 0.85) == [[1, 0]]


def test_between_two_coverages_the_larger_counts() -> None:
    made = of_all(np.linspace(-1, 1, 2_000))
    logits = np.random.default_rng(0).normal(0, 2, (5000, 3)).astype(np.float32)

    def sets(coverage: float) -> list[list[int]]:
        return conformal.prediction_sets(card(made), logits, coverage)

    assert sets(0.5731) == sets(0.58) != sets(0.57)
    assert sets(0.9951) == sets(0.996) != sets(0.995)
    assert sets(0.9) == sets(0.5 + 0.4)


@given(st.floats(0.5, 0.996), st.floats(0.5, 0.996))
def test_more_coverage_means_the_same_set_or_a_larger(one: float, other: float) -> None:
    made = of_all(np.random.default_rng(0).uniform(-1, 1, 300))
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
        conformal=conformal.calibrate(np.linspace(-1, 0.5, 1000), np.arange(1000) // 990, 2),
    )
    logits = np.array([[-4.0], [0.1], [3.0]], np.float32)
    assert conformal.prediction_sets(binary, logits, 0.9) == [[0], [1, 0], [1]]


@pytest.mark.parametrize("coverage", [0.4999, 0.9991, 1.0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_coverage_outside_the_range_is_refused(coverage: float) -> None:
    made = of_all(np.zeros(5))
    with pytest.raises(CoverageError, match=r"coverage must be from 0\.5 to 0\.999"):
        conformal.check(card(made), coverage)


def test_models_without_sets_say_so() -> None:
    with pytest.raises(CoverageError, match="no conformal thresholds"):
        conformal.check(card(None), 0.9)
    sigmoid = card(None, head=Head.SIGMOID, thresholds=(0.5,) * 3)
    with pytest.raises(CoverageError, match="it is multilabel"):
        conformal.check(sigmoid, 0.9)
