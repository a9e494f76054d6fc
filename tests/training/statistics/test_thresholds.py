"""Thresholds against every other that could be chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitserve_training.statistics import thresholds


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(400, 2_000))
def test_no_other_threshold_has_a_much_higher_expected_f1(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.beta(
        float(generator.uniform(0.2, 3)), float(generator.uniform(0.2, 3)), (count, 1)
    )
    (found,) = thresholds.best(probabilities)

    def expected(threshold: float) -> float:
        said = probabilities >= threshold
        return float(2 * probabilities[said].sum() / (said.sum() + probabilities.sum()))

    assert expected(found) >= max(map(expected, np.linspace(0, 1, 101))) - 0.005


def test_a_label_that_hardly_any_picture_has_is_left_near_one_half() -> None:
    (never,) = thresholds.best(np.zeros((9, 1)))
    assert never == 0.5
    (hardly,) = thresholds.best(np.full((9, 1), 1e-3))
    assert hardly == pytest.approx(0.5, abs=0.02)


def test_labels_that_are_told_apart_without_a_doubt_have_one_half() -> None:
    assert thresholds.best(np.repeat([[0.0], [1.0]], 500, axis=0))[0] == pytest.approx(0.5)
