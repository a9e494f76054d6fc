"""Two histograms compared: may both be of the same pictures?"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

FEWEST: Final = 5
"""Pictures to be expected in a bin, below which bins are put together (Cochran 1954)."""


class Comparison(NamedTuple):
    """What a window of pictures says."""

    n: int
    """Pictures."""
    p: float
    """Probability of a difference as large or larger, if nothing has changed."""
    psi: float
    """Population stability index less what chance alone would give; 0 if nothing has changed."""


def chi_squared_tail(x: float, freedom: int) -> float:
    """P(χ² ≥ x) for a positive whole number of degrees of freedom.

    The finite sums of Abramowitz and Stegun, 26.4.4 and 26.4.5.
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


def compare(window: Counts, normal: Counts, dispersion: float = 1.0) -> Comparison:
    """Test whether two histograms are of one distribution (χ² of two samples).

    Args:
        window: `[bins]`, of new pictures.
        normal: `[bins]`, of those before.
        dispersion: variance over that of independent pictures, 1 or more.
    """
    n, m = int(window.sum()), int(normal.sum())
    window, normal = _with_rare_bins_together(window, normal)
    if n == 0 or len(window) < 2:
        return Comparison(n, 1.0, 0.0)
    differences = window * math.sqrt(m / n) - normal * math.sqrt(n / m)
    chi_squared = float((differences**2 / (window + normal)).sum())
    freedom = len(window) - 1
    now, before = ((each + 0.5) / (each.sum() + 0.5 * len(each)) for each in (window, normal))
    psi = float(((now - before) * np.log(now / before)).sum())
    by_chance = dispersion * freedom * (1 / n + 1 / m)
    return Comparison(n, chi_squared_tail(chi_squared / dispersion, freedom), psi - by_chance)


def _with_rare_bins_together(window: Counts, normal: Counts) -> tuple[Counts, Counts]:
    """The same with one bin in the place of those that have less than `FEWEST` to expect."""
    both = window + normal
    expected = both * (window.sum() / max(both.sum(), 1))
    rare = int(np.count_nonzero(expected < FEWEST))
    if rare:
        order = np.argsort(expected, kind="stable")
        rare = max(rare, int(expected[order].cumsum().searchsorted(FEWEST)) + 1)
        window, normal = (
            np.append(each[order[rare:]], each[order[:rare]].sum()) for each in (window, normal)
        )
    kept = window + normal > 0
    return window[kept], normal[kept]


def dispersion(blocks: Sequence[Counts]) -> float:
    """How much more blocks of pictures differ than they would if the pictures were independent.

    χ² of all blocks, or of all pairs of them if that is more, over its degrees of freedom; at
    least 1. Pairs differ more where neighbors in time are alike over more than a block.
    """
    pairs = [one + next_one for one, next_one in zip(blocks[::2], blocks[1::2], strict=True)]
    return max(1.0, _dispersion(np.stack(blocks)), _dispersion(np.stack(pairs)))


def _dispersion(table: Counts) -> float:
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(table.sum(), 1)
    freedom = (len(table) - 1) * (table.shape[1] - 1)
    if freedom <= 0 or not expected.all():
        return 1.0
    return float(((table - expected) ** 2 / expected).sum() / freedom)
