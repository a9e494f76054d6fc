"""Intervals against scikit-learn, scipy, and how often they hold what they should."""

import numpy as np
import pytest
from scipy.stats import binom

from logitserve.inference.intervals import bootstrap, wilson
from logitserve_training.statistics import intervals
from logitserve_training.statistics.calibration import Floats
from logitserve_training.statistics.intervals import Paired


def test_a_share_without_a_mistake_is_not_certain() -> None:
    low, high = wilson(9, 9)
    assert low == pytest.approx(0.7009, abs=1e-4)
    assert high == 1.0


@pytest.mark.parametrize("asked", [0.8, 0.95])
def test_the_interval_of_a_coverage_holds_19_of_20_draws(asked: float) -> None:
    """Ranks among uniform scores: the coverage of a threshold is the threshold."""
    generator = np.random.default_rng(0)
    low, high = intervals.of_coverage(asked, 200, 300)
    rank = int(np.ceil(201 * asked))
    within = []
    for _ in range(2_000):
        threshold = np.sort(generator.random(200))[rank - 1]
        within.append(low <= np.mean(generator.random(300) <= threshold) <= high)
    assert 0.93 < np.mean(within) < 0.98


def test_a_coverage_that_the_pictures_cannot_give_is_of_every_label() -> None:
    assert intervals.of_coverage(0.99, 50, 100) == (1.0, 1.0)


def test_over_labels_of_their_own_the_interval_is_about_that_of_all() -> None:
    low, high = intervals.of_coverages(0.9, [500] * 10, [1000] * 10)
    expected = intervals.of_coverage(0.9, 5_000, 10_000)
    assert (low, high) == pytest.approx(expected, abs=2e-3)


def mean(weights: Floats, values: Floats) -> dict[str, float]:
    return {"mean": float(weights @ values / weights.sum())}


def test_the_bootstrap_of_a_share_is_that_of_the_binomial() -> None:
    values = np.repeat([0.0, 1.0], [30, 70])
    low, high = bootstrap(lambda weights: mean(weights, values), 100)["mean"]
    assert (low, high) == pytest.approx(binom.ppf([0.025, 0.975], 100, 0.7) / 100, abs=0.03)


def test_pictures_of_one_group_count_as_one() -> None:
    values = np.random.default_rng(0).normal(size=20)
    repeated, groups = np.repeat(values, 50), np.repeat(np.arange(20), 50)
    alone = bootstrap(lambda weights: mean(weights, values), 20)
    grouped = bootstrap(lambda weights: mean(weights, repeated), 1_000, groups)
    assert grouped["mean"] == pytest.approx(alone["mean"])


def test_two_models_are_compared_where_they_differ() -> None:
    first = np.array([True] * 95 + [False] * 5)
    assert Paired.of(first, first) == Paired(0, 0, 1.0, len(first))
    worse = first.copy()
    worse[:8] = False
    found = Paired.of(first, worse)
    assert (found.only_first, found.only_second) == (8, 0)
    assert found.p == pytest.approx(2 * 0.5**8)
    assert (found.verdict, Paired.of(worse, first).verdict) == ("better", "worse")
    assert (Paired.of(first, first).verdict, Paired.of(first, first).pictures_needed) == (
        "cannot tell",
        None,
    )


def test_pictures_needed_tell_in_four_cases_of_five() -> None:
    """Of pictures on which the first is right in 3 of 4 that differ, which are 4 of 100."""
    first, second = np.zeros(100, np.bool_), np.zeros(100, np.bool_)
    first[:3] = second[3] = True
    found = Paired.of(first, second)
    assert found.verdict == "cannot tell"
    needed = found.pictures_needed
    assert needed is not None
    generator = np.random.default_rng(0)
    told = 0
    for _ in range(400):
        drawn = generator.integers(0, 100, needed)
        told += Paired.of(first[drawn], second[drawn]).verdict == "better"
    assert 0.7 < told / 400 < 0.88  # the exact test is a little more careful
