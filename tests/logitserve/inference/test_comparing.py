"""Evidence that one of two versions is better, looked at after each label."""

import numpy as np
import pytest
from scipy.special import betaln

from logitserve.inference.comparing import ENOUGH, evidence, more_needed


@pytest.mark.parametrize(("first", "second"), [(0, 0), (9, 0), (3, 4), (36, 13), (500, 400)])
def test_it_is_the_likelihood_ratio_of_a_mixture(first: int, second: int) -> None:
    expected = np.exp(betaln(first + 1, second + 1) + (first + second) * np.log(2))
    assert evidence(first, second) == pytest.approx(expected)
    assert evidence(second, first) == pytest.approx(expected)


def test_nine_of_nine_are_enough_and_thousands_do_not_overflow() -> None:
    assert evidence(0, 8) < ENOUGH < evidence(0, 9)
    assert evidence(0, 5000) > 1e300


def test_versions_that_are_as_good_are_told_apart_in_one_of_fifty_cases_at_most() -> None:
    generator = np.random.default_rng(0)
    wins = generator.integers(0, 2, (2000, 300)).cumsum(axis=1)
    seen = np.arange(1, 301)
    table = np.array(
        [[evidence(a, n - a) if a <= n else 0 for n in range(1, 301)] for a in range(301)]
    )
    ever = (table[wins, seen - 1] >= ENOUGH).any(axis=1)
    assert 0.002 < ever.mean() < 0.02


def test_what_is_needed_is_enough() -> None:
    assert more_needed(0, 0) is None
    assert more_needed(4, 4) is None
    assert more_needed(0, 20) == 0
    needed = more_needed(2, 8)
    assert needed is not None
    scale = (10 + needed) / 10
    assert evidence(2 * scale, 8 * scale) >= ENOUGH
    assert evidence(2 * (scale - 0.1), 8 * (scale - 0.1)) < ENOUGH
