"""The statistics of the watch, against scipy's and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from logitserve_service.monitoring import statistics
from logitserve_service.monitoring.statistics import chi_squared_tail, compare

GENERATOR_SEED = 5


@given(st.floats(0, 600), st.integers(1, 60))
def test_the_tail_is_that_of_scipy(x: float, freedom: int) -> None:
    assert chi_squared_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-12)


COUNTS = st.lists(st.tuples(st.integers(30, 900), st.integers(200, 900)), min_size=2, max_size=16)


@given(COUNTS)
def test_a_comparison_is_the_test_of_a_table(bins: list[tuple[int, int]]) -> None:
    window, normal = map(list, zip(*bins, strict=True))
    found = compare(window, normal)
    expected = stats.chi2_contingency([window, normal], correction=False)
    assert found.n == sum(window)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    now, before = (
        (np.array(each) + 0.5) / (sum(each) + len(each) / 2) for each in (window, normal)
    )
    psi = stats.entropy(now, before) + stats.entropy(before, now)
    by_chance = (len(bins) - 1) * (1 / sum(window) + 1 / sum(normal))
    assert found.psi == pytest.approx(psi - by_chance, abs=1e-9)


def test_psi_of_the_same_is_zero_on_average() -> None:
    generator = np.random.default_rng(GENERATOR_SEED)
    found = [
        compare(
            generator.multinomial(400, [0.1] * 10).tolist(),
            generator.multinomial(5000, [0.1] * 10).tolist(),
        ).psi
        for _ in range(2000)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(len(found))


@pytest.mark.parametrize("shares", [[0.1] * 10, [0.01, 0.99], [1 / (k + 1) for k in range(16)]])
@pytest.mark.parametrize("n", [100, 800])
def test_p_is_honest_in_the_tail(shares: list[float], n: int) -> None:
    generator = np.random.default_rng(GENERATOR_SEED)
    chances = np.array(shares) / sum(shares)
    tries, asked = 4000, 0.01
    normal = generator.multinomial(5000, chances, tries).tolist()
    windows = generator.multinomial(n, chances, tries).tolist()
    false = sum(
        compare(window, each).p < asked for window, each in zip(windows, normal, strict=True)
    )
    assert false <= stats.binom.ppf(0.9999, tries, 1.3 * asked)


def test_rare_bins_are_compared_together() -> None:
    alone = compare([3, 2, 1, 94], [100, 100, 100, 4700])
    together = compare([6, 94], [300, 4700])
    assert alone.p == pytest.approx(together.p)
    nobody = compare([0, 0, 50, 50], [0, 0, 2500, 2500])
    assert nobody.n == 100
    assert nobody.p == pytest.approx(1)
    assert compare([0, 0], [1, 9]).p == compare([4], [9]).p == 1
    assert compare([1, 0], [1, 0]).p == 1


def test_a_new_class_is_found_though_the_reference_has_none_of_it() -> None:
    assert compare([30, 35, 35], [0, 2500, 2500]).p < 1e-9
    assert compare([30, 70], [50, 4950]).p < 1e-9


def test_dispersion() -> None:
    generator = np.random.default_rng(GENERATOR_SEED)
    even = generator.multinomial(200, [0.1] * 10, 10)
    assert 1 <= statistics.dispersion(even) < 1.6
    table = stats.chi2_contingency(even, correction=False)
    assert statistics.dispersion(even) >= table.statistic / table.dof
    # Each picture comes four times: the variance is four times that of independent pictures.
    fourfold = 4 * generator.multinomial(50, [0.1] * 10, 10)
    assert 2.5 < statistics.dispersion(fourfold) < 6.5
    assert statistics.dispersion(even[:1]) == 1
    assert statistics.dispersion(even[:, :1]) == 1
