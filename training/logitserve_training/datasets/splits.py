"""Parts of a data set in which every label has its share, and no group is torn apart."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Outcomes = npt.NDArray[np.int64]
"""`[n, labels]`, 1 where the label holds, else 0."""
Rows = npt.NDArray[np.int64]

SPLIT_SEED: Final = 20_240_601
"""Fixed, and not the training's seed: every run chooses and tests on the same pictures."""


def stratified(
    outcomes: Outcomes, shares: Sequence[float], *, groups: npt.NDArray[np.int64] | None = None
) -> list[Rows]:
    """Part pictures, the rarest label first (Sechidis, Tsoumakas, Vlahavas 2011, "On the
    Stratification of Multi-label Data"), whole groups at a time.

    Args:
        outcomes: what holds of each picture.
        shares: of the parts; their sum is 1.
        groups: None makes each picture one of its own.

    Returns:
        the rows of each part, in their order; none is empty where there are units enough.
    """  # noqa: D205 - the source is part of what it does
    count = len(outcomes)
    if groups is None:
        groups = np.arange(count)
    _, unit_of = np.unique(groups, return_inverse=True)
    # The last column counts the pictures themselves.
    counted = np.concatenate([outcomes, np.ones((count, 1), np.int64)], axis=1)
    units = np.zeros((unit_of.max() + 1, counted.shape[1]), np.int64)
    np.add.at(units, unit_of, counted)

    wanted = np.outer(shares, units.sum(axis=0))  # [parts, columns]
    # A label with units enough is in each part, however small its share there would be.
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
    """Move the unit that helps most to another part, until none helps; both change in place.

    The greedy parting looks at one label at a time, and the last pictures of a common label find
    no room. What a move helps is the fall of the sum of squares of `wanted`, `[parts, columns]`.
    """
    sizes = (units**2).sum(axis=1)
    while True:
        along = units @ wanted.T  # [units, parts]
        here = np.take_along_axis(along, part_of[:, None], axis=1)
        change = sizes[:, None] + here - along  # half of what the sum of squares rises by
        alone = np.bincount(part_of, minlength=len(wanted))[part_of] == 1
        change[alone] = 0  # no part becomes empty
        unit, part = np.unravel_index(change.argmin(), change.shape)
        if change[unit, part] > -1e-9:
            return
        wanted[part_of[unit]] += units[unit]
        wanted[part] -= units[unit]
        part_of[unit] = part


def _of_rarest(units: Outcomes, waiting: Rows) -> tuple[int, Rows]:
    """The label that the fewest waiting pictures have, and the units with it, large ones first."""
    never = np.iinfo(np.int64).max
    left = units[waiting].sum(axis=0)
    left = np.where(left > 0, left, never)
    if (left[:-1] < never).any():
        left[-1] = never  # the pictures themselves are looked at when no label is left
    label = int(left.argmin())
    having = waiting[units[waiting, label] > 0]
    return label, having[np.argsort(-units[having, -1], kind="stable")]


def _neediest(wanted: npt.NDArray[np.float64], part_of: Rows) -> int:
    """The part that lacks most of the label, then of pictures; an empty one if units run out.

    `wanted` is what each part lacks, `[parts, 2]`; `part_of` is -1 for units that wait.
    """
    empty = np.setdiff1d(np.arange(len(wanted)), part_of).tolist()
    waiting = int((part_of < 0).sum())
    candidates: list[int] = empty if waiting <= len(empty) else list(range(len(wanted)))
    return max(candidates, key=lambda part: tuple(wanted[part].tolist()))
