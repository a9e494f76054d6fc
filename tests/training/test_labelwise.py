"""Against scikit-learn's figures, and thresholds against every other that could be chosen."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitserve_training import labelwise


def f1(truth: npt.NDArray[np.int64], said: npt.NDArray[np.bool_]) -> float:
    right = int((truth * said).sum())
    return 2 * right / max(int(truth.sum()) + int(said.sum()), 1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 10, 1000]))
def test_no_other_threshold_has_a_higher_f1(seed: int, levels: int) -> None:
    """With few levels most probabilities are tied."""
    generator = np.random.default_rng(seed)
    outcomes = generator.integers(0, 2, (30, 2))
    probabilities = generator.integers(0, levels, (30, 2)) / levels
    found = labelwise.best_thresholds(probabilities, outcomes)
    for threshold, stated, truth in zip(found, probabilities.T, outcomes.T, strict=True):
        assert 0 <= threshold <= 1
        best = max(f1(truth, stated >= other) for other in [*stated, 0, 1.1])
        assert f1(truth, stated >= threshold) == pytest.approx(best)


@pytest.mark.parametrize(
    ("probabilities", "outcomes", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5),  # the gap holds a half
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),  # between, not on the edge
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 1, 1], 0.75),
        ([0.1, 0.2, 0.3], [0, 0, 0], 0.5),  # nothing to learn from
        ([0.1, 0.2, 0.3], [1, 1, 1], 0.5),
        ([0.4, 0.4, 0.4], [0, 1, 1], 0.2),  # all tied: all or none
    ],
)
def test_thresholds_by_hand(
    probabilities: list[float], outcomes: list[int], expected: float
) -> None:
    (found,) = labelwise.best_thresholds(
        np.array(probabilities)[:, None], np.array(outcomes)[:, None]
    )
    assert found == pytest.approx(expected)


def test_tied_pictures_are_found_at_once_whatever_their_order() -> None:
    """A constant score has the share as its average precision, though the first be a yes."""
    constant, answers = np.full((4, 1), 0.5), np.ones((4, 1), np.int64)
    outcomes = np.array([[1], [0], [0], [0]])
    for rows in (outcomes, outcomes[::-1]):
        (label,) = labelwise.score(constant, answers, rows)
        assert (label.average_precision, label.share, label.support) == (0.25, 0.25, 1)
        assert label.f1 == pytest.approx(0.4)


def test_a_label_that_no_picture_has_counts_in_no_mean() -> None:
    outcomes = np.array([[1, 0], [0, 0]])
    scores = labelwise.score(np.array([[0.9, 0.9], [0.1, 0.1]]), outcomes, outcomes)
    assert scores[1].support == 0
    assert labelwise.means(scores) == {"macro_f1": 1.0, "mean_average_precision": 1.0}
