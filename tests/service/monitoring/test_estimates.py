import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss

from logitserve.inference.intervals import wilson
from logitserve.inference.reliability import reliability
from logitserve_service.monitoring.estimates import (
    EDGES,
    STRATA,
    Labeled,
    Pairs,
    Strata,
    naive_share,
    weighted_share,
)

Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize(("right", "n"), [(0, 1), (9, 9), (1, 3), (95, 100), (9965, 10_000)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def strata_of(p: Floats) -> tuple[npt.NDArray[np.int64], Strata]:
    stratum = np.searchsorted(EDGES, p, side="right")
    return stratum, Strata(
        np.bincount(stratum, minlength=STRATA).astype(np.float64),
        np.bincount(stratum, p, minlength=STRATA).astype(np.float64),
    )


def week(generator: np.random.Generator, n: int = 20_000) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Probabilities as of digits, most of them near 1, and answers that are right as often."""
    p = 1 - 0.5 * generator.beta(0.08, 4.0, n)
    return p, generator.random(n) < p


@pytest.mark.parametrize("offset", [0.0, 0.02], ids=["calibrated", "too sure"])
def test_of_biased_labels_the_weighted_interval_holds_and_the_naive_does_not(
    offset: float,
) -> None:
    generator = np.random.default_rng(20_260_801)
    weighted = naive = 0
    widths = []
    for _ in range(200):
        p, right = week(generator)
        right &= generator.random(len(p)) >= offset
        labeled = (p < 0.9) | (generator.random(len(p)) < 0.02)
        stratum, strata = strata_of(p)
        found = weighted_share(right[labeled], stratum[labeled], strata)
        weighted += found.low <= right.mean() <= found.high
        widths.append(found.high - found.low)
        biased = naive_share(right[labeled])
        naive += biased.low <= right.mean() <= biased.high
    assert weighted >= 186, "93 %"
    assert naive < 20
    assert np.median(widths) < 0.04, "about what as many random labels would give"


def test_a_stratum_without_labels_may_be_anything() -> None:
    p = np.array([0.3] * 10 + [0.999] * 90)
    stratum, strata = strata_of(p)
    found = weighted_share(np.ones(10, np.bool_), stratum[:10], strata)
    assert found.value == pytest.approx(0.1 + 0.9 * 0.999)
    assert found.low == pytest.approx(0.1, abs=0.01)
    assert found.high == 1


def pairs(matrix: npt.NDArray[np.bool_]) -> Pairs:
    return Pairs(*np.nonzero(matrix))


@pytest.fixture
def matrices() -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Probabilities, what is said and what is true."""
    generator = np.random.default_rng(5)
    z = generator.normal(0, 2, (400, 3))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return p, p.argmax(axis=1), np.array([generator.choice(3, p=row) for row in p])


@pytest.fixture
def labeled(matrices: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> Labeled:
    p, said, truth = matrices
    one_hot = np.eye(3, dtype=np.bool_)
    right = said == truth
    stated = p.max(axis=1)
    return Labeled(
        ["a", "b", "c"],
        pairs(one_hot[said]),
        pairs(one_hot[truth]),
        pairs(one_hot[said] & one_hot[truth]),
        right,
        np.full(400, np.nan),
        -np.log(p[np.arange(400), truth]),
        strata_of(stated)[0],
        (np.arange(400), stated, right.astype(np.float64)),
    )


@pytest.mark.parametrize("is_weighted", [False, True])
def test_figures_are_those_of_others(
    labeled: Labeled,
    matrices: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]],
    *,
    is_weighted: bool,
) -> None:
    p, said, truth = matrices
    weights = np.random.default_rng(6).integers(1, 5, 400) if is_weighted else np.ones(400)
    weights = weights.astype(np.float64)
    found = labeled.figures(weights)
    assert found["nll"] == pytest.approx(log_loss(truth, p, sample_weight=weights))
    f1 = f1_score(truth, said, average=None, sample_weight=weights)
    assert [found[f"f1 {name}"] for name in "abc"] == pytest.approx(f1.tolist())
    assert found["ece"] == pytest.approx(reliability(p.max(axis=1), truth == said, weights).error)


def test_intervals_hold_their_figures(labeled: Labeled) -> None:
    for name, found in labeled.estimates(np.ones(400)).items():
        assert found.low <= found.value <= found.high, name
        assert found.high - found.low < 0.3, name
