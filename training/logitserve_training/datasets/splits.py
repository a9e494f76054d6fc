"""Stratified splits that keep groups together."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Outcomes = npt.NDArray[np.int64]
"""`[n, labels]`, 1 if the label holds, else 0."""
Rows = npt.NDArray[np.int64]

SPLIT_SEED: Final = 20_240_601
"""Fixed, independent of the training seed: all runs have the same splits."""


def stratified(
    outcomes: Outcomes, shares: Sequence[float], *, groups: npt.NDArray[np.int64] | None = None
) -> list[Rows]:
    """Split pictures by iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the
    Stratification of Multi-label Data"), keeping groups together.

    Args:
        outcomes: labels of each picture.
        shares: share of each part; their sum is 1.
        groups: None: each picture is its own group.

    Returns:
        the rows of each part, in order; none is empty if there are enough groups.
    """  # noqa: D205 - the source belongs to the summary
    count = len(outcomes)
    if groups is None:
        groups = np.arange(count)
    _, unit_of = np.unique(groups, return_inverse=True)
    # The last column counts all pictures.
    counted = np.concatenate([outcomes, np.ones((count, 1), np.int64)], axis=1)
    units = np.zeros((unit_of.max() + 1, counted.shape[1]), np.int64)
    np.add.at(units, unit_of, counted)

    wanted = np.outer(shares, units.sum(axis=0))  # [parts, columns]
    # A label with enough groups is in each part, however small its share would be.
    are_enough = (units[:, :-1] > 0).sum(axis=0) >= len(shares)
    wanted[1:, :-1] = np.where(are_enough, np.maximum(wanted[1:, :-1], 1), wanted[1:, :-1])
    wanted[0] = units.sum(axis=0) - wanted[1:].sum(axis=0)
    part_of = np.full(len(units), -1)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(units))
    while (part_of < 0).any():
        label, having = _of_rarest(units, order[part_of[order] < 0])
        for unit in having:
            part = _neediest(wanted[:, [label, -1]], part_of)
            part_of[unit] = part
            wanted[part] -= units[unit]
    _balance(units, wanted, part_of)
    return [np.flatnonzero(part_of[unit_of] == part) for part in range(len(shares))]


def _balance(units: Outcomes, wanted: npt.NDArray[np.float64], part_of: Rows) -> None:
    """Move the best unit to another part until no move helps; both arrays change in place.

    The greedy split handles one label at a time, so the last pictures of a common label may not
    fit. A move helps if it lowers the sum of squares of `wanted`, `[parts, columns]`.
    """
    sizes = (units**2).sum(axis=1)
    while True:
        along = units @ wanted.T  # [units, parts]
        here = np.take_along_axis(along, part_of[:, None], axis=1)
        change = sizes[:, None] + here - along  # half of the increase of the sum of squares
        alone = np.bincount(part_of, minlength=len(wanted))[part_of] == 1
        change[alone] = 0  # a part must not become empty
        unit, part = np.unravel_index(change.argmin(), change.shape)
        if change[unit, part] > -1e-9:
            return
        wanted[part_of[unit]] += units[unit]
        wanted[part] -= units[unit]
        part_of[unit] = part


def _of_rarest(units: Outcomes, waiting: Rows) -> tuple[int, Rows]:
    """Return the rarest label among the waiting pictures, and its units, large ones first."""
    never = np.iinfo(np.int64).max
    left = units[waiting].sum(axis=0)
    left = np.where(left > 0, left, never)
    if (left[:-1] < never).any():
        left[-1] = never  # the count of all pictures is used when no label is left
    label = int(left.argmin())
    having = waiting[units[waiting, label] > 0]
    return label, having[np.argsort(-units[having, -1], kind="stable")]


def _neediest(wanted: npt.NDArray[np.float64], part_of: Rows) -> int:
    """Return the part that lacks most of the label, then of pictures; empty ones if units run out.

    `wanted` is the deficit of each part, `[parts, 2]`; `part_of` is -1 for waiting units.
    """
    empty = np.setdiff1d(np.arange(len(wanted)), part_of).tolist()
    waiting = int((part_of < 0).sum())
    candidates: list[int] = empty if waiting <= len(empty) else list(range(len(wanted)))
    return max(candidates, key=lambda part: tuple(wanted[part].tolist()))
