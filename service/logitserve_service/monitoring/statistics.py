"""Compare two histograms: test whether they have the same distribution."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

FEWEST: Final = 5
"""Minimum expected pictures per bin; rarer bins are merged (Cochran 1954)."""
_MANY: Final = 20
"""Pictures of the window in a bin that suffice, regardless of the expected number."""


class Comparison(NamedTuple):
    """The result of comparing a window of pictures."""

    n: int
    """Number of pictures."""
    p: float
    """p-value: probability of a difference at least as large without drift."""
    psi: float
    """Population stability index, minus its expectation by chance; about 0 without drift."""
    by_chance: float
    """The expectation of the PSI by chance."""


def chi_squared_tail(x: float, freedom: int) -> float:
    """Return P(χ² ≥ x) for a positive whole number of degrees of freedom.

    Computed by the finite sums of Abramowitz and Stegun, 26.4.4 and 26.4.5.
    """
    half = x / 2
    odd = freedom % 2
    term = math.sqrt(half / math.pi) * 2 if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= half / (step + 1 + odd / 2)
    tail = math.exp(-half) * total
    return tail + math.erfc(math.sqrt(half)) if odd else tail


def compare(window: Sequence[int], normal: Sequence[int], dispersion: float = 1.0) -> Comparison:
    """Test whether two histograms have the same distribution (χ² test of two samples).

    Plain Python is four times as fast as arrays for so few numbers.

    Args:
        window: histogram of new pictures.
        normal: histogram of the baseline in the same bins.
        dispersion: variance relative to that of independent pictures, at least 1.
    """
    n, m = sum(window), sum(normal)
    if n == 0:
        return Comparison(n, 1.0, 0.0, math.inf)
    bins = _with_rare_bins_together(window, normal, FEWEST * (n + m) / n)
    chi_squared = psi = 0.0
    ahead, behind, half = math.sqrt(m / n), math.sqrt(n / m), 0.5 * len(bins)
    for now, before in bins:
        chi_squared += (now * ahead - before * behind) ** 2 / (now + before)
        share, usual = (now + 0.5) / (n + half), (before + 0.5) / (m + half)
        psi += (share - usual) * math.log(share / usual)
    freedom = len(bins) - 1
    p = chi_squared_tail(chi_squared / dispersion, freedom) if freedom else 1.0
    by_chance = dispersion * freedom * (1 / n + 1 / m)
    return Comparison(n, p, psi - by_chance, by_chance)


def _with_rare_bins_together(
    window: Sequence[int], normal: Sequence[int], least: float
) -> list[tuple[int, int]]:
    """Return the bins with `least` pictures in both histograms, or `_MANY` in the window.

    The other bins are merged into one with `least` pictures.
    """
    bins: list[tuple[int, int]] = []
    rare: list[tuple[int, int]] = []
    for each in sorted(zip(window, normal, strict=True), key=sum):
        is_rare = each[0] < _MANY and sum(each) < least
        (rare if is_rare else bins).append(each)
    while bins and 0 < sum(map(sum, rare)) < least:
        rare.append(bins.pop(0))
    now, before = (sum(each) for each in zip(*rare, strict=True)) if rare else (0, 0)
    return [*bins, (now, before)] if now or before else bins


def dispersion(blocks: npt.NDArray[np.int64]) -> float:
    """Estimate the overdispersion of blocks relative to independent pictures.

    This is χ² of all blocks, or of all pairs of blocks if larger, divided by its degrees of
    freedom; at least 1. Pairs differ more if pictures are correlated over more than a block.

    Args:
        blocks: `[blocks, bins]`.
    """
    even = len(blocks) // 2 * 2
    pairs = blocks[:even].reshape(-1, 2, blocks.shape[1]).sum(axis=1)
    return max(1.0, _dispersion(blocks), _dispersion(pairs))


def _dispersion(table: npt.NDArray[np.int64]) -> float:
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(table.sum(), 1)
    freedom = (len(table) - 1) * (table.shape[1] - 1)
    if freedom < 1 or not expected.all():
        return 1.0
    return float(((table - expected) ** 2 / expected).sum() / freedom)
