"""Against scikit-learn's figures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from logitserve.inference.intervals import wilson
from logitserve_training.label_scores import Labels


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 10, 1000]))
def test_figures_are_those_of_scikit_learn_for_any_weights(seed: int, levels: int) -> None:
    """With few levels most probabilities are tied."""
    generator = np.random.default_rng(seed)
    outcomes, answers = generator.integers(0, 2, (2, 30, 2))
    outcomes[0] = 1
    probabilities = generator.integers(0, levels, (30, 2)) / levels
    weights = generator.integers(0, 3, 30).astype(float)
    weights[0] = 1
    found = Labels(probabilities, answers, outcomes)
    expected = [
        average_precision_score(truth, stated, sample_weight=weights)
        for truth, stated in zip(outcomes.T, probabilities.T, strict=True)
    ]
    assert found.average_precision(weights) == pytest.approx(expected)
    expected = f1_score(outcomes, answers, average=None, sample_weight=weights, zero_division=0)
    assert found.f1(weights) == pytest.approx(expected)


def test_tied_pictures_are_found_at_once_whatever_their_order() -> None:
    """A constant score has the share as its average precision, though the first be a yes."""
    constant, answers = np.full((4, 1), 0.5), np.ones((4, 1), np.int64)
    outcomes = np.array([[1], [0], [0], [0]])
    for rows in (outcomes, outcomes[::-1]):
        (label,) = Labels(constant, answers, rows).scores()
        assert label.average_precision is not None
        assert label.f1 is not None
        assert (label.average_precision.value, label.share, label.support) == (0.25, 0.25, 1)
        assert label.f1.value == pytest.approx(0.4)


def test_the_intervals_of_a_label_hold_what_other_pictures_give() -> None:
    """Over draws of 100 pictures of one kind; the truth is the figure of very many."""
    generator = np.random.default_rng(0)

    def drawn(count: int) -> Labels:
        outcomes = generator.integers(0, 2, (count, 1))
        probabilities = np.clip(0.5 + 0.2 * generator.normal(2 * outcomes - 1, 1), 0, 1)
        return Labels(probabilities, (probabilities >= 0.5).astype(np.int64), outcomes)

    right, one = drawn(50_000), np.ones(50_000)
    scores = [drawn(100).scores()[0] for _ in range(20)]
    for truth, found in (
        (right.average_precision(one)[0], [score.average_precision for score in scores]),
        (right.f1(one)[0], [score.f1 for score in scores]),
    ):
        held = [figure is not None and figure.low <= truth <= figure.high for figure in found]
        assert np.mean(held) >= 0.8


def test_a_label_found_without_a_mistake_in_nine_pictures_is_not_certain() -> None:
    outcomes = np.array([[1]] * 9 + [[0]] * 9)
    (label,) = Labels(outcomes.astype(float), outcomes, outcomes).scores()
    for figure in (label.f1, label.average_precision):
        assert figure == pytest.approx((1.0, *wilson(9, 9)))


def test_a_label_that_no_picture_has_was_not_measured() -> None:
    outcomes = np.array([[1, 0], [0, 0]])
    labels = Labels(np.array([[0.9, 0.9], [0.1, 0.1]]), outcomes, outcomes)
    scores = labels.scores()[1]
    assert (scores.support, scores.f1, scores.average_precision) == (0, None, None)
    assert labels.means(np.ones(2)) == {"macro_f1": 1.0, "mean_average_precision": 1.0}
