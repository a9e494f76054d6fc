"""Split the pictures of a folder: training, validation and test."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from logitserve_training.datasets.dataset import PARTS, Groups
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.splits import Rows, stratified
from logitserve_training.errors import DataFormatError, OptionError
from logitserve_training.recipes import FolderOptions

PART_NAMES: Final = ("training", "validation", "test")
"""Names of the parts in messages."""
REMEDY: Final = (
    "add pictures, or give that part a larger share (--test-split 0.25 --validation-split 0.25); "
    "with --group-by, name other --test-groups or drop it; with --backbone, --folds 5 tests on all"
)


class Parts(NamedTuple):
    """Rows of each part."""

    train: Rows
    validation: Rows
    test: Rows
    folds: tuple[Rows, ...] = ()
    """Test folds; then the three parts are all pictures."""


_LEAST: Final = 5
_FEWEST: Final = 2
"""Minimum number of pictures per class: one for training and one for testing."""
_FEW_GROUPS: Final = 4
"""Minimum number of groups outside the test part; with fewer, validation pictures are taken from
the training groups: another training group gains more than biased thresholds lose."""


def parted(listed: Listing, options: FolderOptions) -> Parts:
    """Split pictures as the folder or the options define, else stratified by label.

    Raises:
        DataFormatError: a part is empty, or the training part lacks a label.
        OptionError: an option does not fit the pictures.
    """
    everything = np.arange(len(listed.names))
    if listed.is_exclusive and (lone := _fewer(listed, everything, _FEWEST)):
        raise DataFormatError(
            f"one picture is too few for a class: {named(lone)}; add pictures, or remove the class"
        )
    if options.folds is not None:
        return Parts(everything, everything, everything, _folds(listed, options.folds))
    part_of, groups = np.array(listed.parts or ["train"] * len(everything)), listed.group_numbers
    if listed.parts is None and listed.groups is not None and groups is not None:
        _require_groups(listed.groups, options.test_groups)
        part_of[np.isin(listed.groups, options.test_groups)] = "test"
        left = len(np.unique(groups[part_of == "train"]))
        groups = None if options.test_groups and left < _FEW_GROUPS else groups
    parts = _torn(listed, part_of, groups, options)
    for rows, name in zip(parts[:3], PART_NAMES, strict=True):
        if not len(rows):
            raise DataFormatError(f"no picture is left for the {name} part; {REMEDY}")
    missing = _fewer(listed, parts.train)
    if missing:
        raise DataFormatError(
            f"the training part has no picture of {named(missing)}: each class needs one "
            f"in it, at least {_LEAST} in all with the default shares; {REMEDY}"
        )
    return parts


def _folds(listed: Listing, count: int) -> tuple[Rows, ...]:
    """Return the test rows of each fold."""
    if listed.parts is not None:
        raise OptionError(
            f"--folds splits the pictures itself, but the folder defines parts ({listed.layout}): "
            "omit --folds"
        )
    groups = listed.group_numbers
    units, what = listed.names, "pictures"
    if listed.groups is not None:
        units = tuple(sorted(set(listed.groups)))
        what = f"groups ({named(units)})"
    if len(units) < count:
        raise OptionError(f"--folds {count}: there are only {len(units)} {what}; reduce it")
    folds = stratified(listed.outcomes, [1 / count] * count, groups=groups)
    for fold in folds:
        if missing := _fewer(listed, np.setdiff1d(np.arange(len(listed.names)), fold)):
            raise DataFormatError(
                f"--folds {count}: all pictures of {named(missing)} are in one fold, so none "
                "are left for training; give more folds, or omit --group-by"
            )
    return tuple(folds)


def _fewer(listed: Listing, rows: Rows, least: int = 1) -> list[str]:
    """Return the labels with fewer than `least` of these pictures."""
    counts = listed.outcomes[rows].sum(axis=0)
    return [label for label, count in zip(listed.labels, counts, strict=True) if count < least]


def _torn(
    listed: Listing, part_of: npt.NDArray[np.str_], groups: Groups | None, options: FolderOptions
) -> Parts:
    """Return the given parts; missing parts are split off from the training part."""
    found = {part: np.flatnonzero(part_of == part) for part in PARTS}
    shares = {"validation": options.validation_split, "test": options.test_split}
    absent = [part for part in PARTS[1:] if not len(found[part])]
    rows = found["train"]
    if absent and len(rows):
        torn = [shares[part] for part in absent]
        of_rows = None if groups is None else groups[rows]
        pieces = stratified(listed.outcomes[rows], [1 - sum(torn), *torn], groups=of_rows)
        found |= {part: rows[piece] for part, piece in zip(["train", *absent], pieces, strict=True)}
    return Parts(found["train"], found["validation"], found["test"])


def _require_groups(groups: Sequence[str], test_groups: Sequence[str]) -> None:
    unknown = sorted(set(test_groups) - set(groups))
    counts = Counter(groups)
    if unknown or len(counts) < (2 if test_groups else 3):
        there_are = ", ".join(f"{group} ({count})" for group, count in sorted(counts.items()))
        raise OptionError(
            f"--test-groups {unknown[0]}: no such group; groups: {there_are}"
            if unknown
            else f"--group-by finds the groups {there_are}; training, validation and test need "
            "one group each"
        )
    if counts.keys() <= set(test_groups):
        raise OptionError("--test-groups names every group; leave some for training")
