"""Calibration error by hand, and what chance makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.reliability import Reliability, null, reliability


@pytest.mark.parametrize(
    ("stated", "came_true", "expected"),
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
    stated: list[float], came_true: list[int], expected: float
) -> None:
    assert reliability(np.array(stated), np.array(came_true)).error == pytest.approx(expected)


@given(seed=st.integers(0, 10_000))
def test_it_lies_between_the_whole_gap_and_1(seed: int) -> None:
    generator = np.random.default_rng(seed)
    stated, came_true = generator.random(40), generator.integers(0, 2, 40)
    found = reliability(stated, came_true).error
    assert abs(stated.mean() - came_true.mean()) - 1e-12 <= found <= 1


@given(seed=st.integers(0, 10_000))
def test_a_picture_of_weight_2_counts_twice(seed: int) -> None:
    generator = np.random.default_rng(seed)
    stated, came_true = generator.random(20), generator.integers(0, 2, 20)
    weights = generator.integers(0, 3, 20)
    rows = np.repeat(np.arange(20), weights)
    if len(rows):
        once = reliability(stated[rows], came_true[rows]).error
        assert reliability(stated, came_true, weights.astype(float)).error == pytest.approx(once)


def test_right_probabilities_have_the_error_of_chance_and_wrong_ones_more() -> None:
    generator = np.random.default_rng(1)
    stated = generator.uniform(0.5, 1, 2_000)
    expected = null(stated)
    right = reliability(stated, generator.random(2_000) < stated).error
    wrong = reliability(stated, generator.random(2_000) < stated - 0.1).error
    assert 0 < expected.mean < expected.limit < 0.06
    assert right < 1.2 * expected.limit < wrong


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=20).filter(any),
    st.integers(1, 50),
)
def test_bins_are_merged_until_each_says_something(counts: list[int], fewest: int) -> None:
    counted = np.array(counts, np.float64)
    bins = Reliability(counted, counted * np.linspace(0, 1, len(counts)), counted // 2)
    few = bins.merged(fewest)
    assert few.counts.sum() == sum(counts)
    assert few.came_true.sum() == bins.came_true.sum()
    assert few.stated.sum() == pytest.approx(bins.stated.sum())
    assert len(few.counts) == 1 or few.counts.min() >= fewest
    assert list(few.stated / few.counts) == sorted(few.stated / few.counts)
