"""The parts of a folder's pictures: to train on, to choose on and to test on."""

from collections import Counter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from logitserve_training.datasets.dataset import PARTS
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.splits import Rows, stratified
from logitserve_training.errors import DataFormatError, OptionError
from logitserve_training.recipes import FolderOptions

PART_NAMES: Final = ("training", "validation", "test")
"""As a message says them."""
REMEDY: Final = (
    "add pictures, or give that part a larger share (--test-split 0.25 --validation-split 0.25); "
    "with --group-by, name other --test-groups or drop it; with --backbone, --folds 5 tests on all"
)


class Parts(NamedTuple):
    """Rows."""

    train: Rows
    validation: Rows
    test: Rows
    folds: tuple[Rows, ...] = ()
    """Those that are tested on in turn; the three others are all pictures then."""


_LEAST: Final = 5
_FEWEST: Final = 2
"""Pictures of a class: one to learn from and one to test on, or nothing can be said of it."""
_FEW_GROUPS: Final = 4
"""With fewer left beside those to test on, validation is torn out of them: a network that has seen
another drive gains more than thresholds lose that were chosen on drives it knows."""


def parted(listed: Listing, options: FolderOptions) -> Parts:
    """Part pictures, as the folder or the options say, else with each label in its share.

    Raises:
        DataFormatError: a part is empty, or the training part lacks a label.
        OptionError: an option does not suit the pictures.
    """
    everything = np.arange(len(listed.names))
    if listed.is_exclusive and not (counts := listed.outcomes.sum(axis=0)).min() >= _FEWEST:
        lone = [
            label for label, count in zip(listed.labels, counts, strict=True) if count < _FEWEST
        ]
        raise DataFormatError(
            f"one picture is too few for a class: {named(lone)}; add pictures, or remove the class"
        )
    if options.folds is not None:
        return Parts(everything, everything, everything, _folds(listed, options.folds))
    if listed.parts is not None:
        parts = _given_parts(listed, np.array(listed.parts), options)
    elif listed.groups is None:
        parts = _split(listed, everything, options.test_split, options.validation_split)
    else:
        parts = _grouped_parts(listed, listed.groups, options)
    for rows, name in zip(parts, PART_NAMES, strict=True):
        if not len(rows):
            raise DataFormatError(f"no picture is left for the {name} part; {REMEDY}")
    missing = _lacking(listed, parts[0])
    if missing:
        raise DataFormatError(
            f"the training part has no picture of {named(missing)}: each class needs one "
            f"there at least, {_LEAST} in all with the default shares; {REMEDY}"
        )
    train, validation, test = parts
    return Parts(train, validation, test)


def _folds(listed: Listing, count: int) -> tuple[Rows, ...]:
    """The rows to test on in turn."""
    if listed.parts is not None:
        raise OptionError(
            f"--folds parts the pictures itself, and here the parts are given ({listed.layout}): "
            "leave --folds out"
        )
    groups = listed.group_numbers
    units = len(listed.names) if groups is None else len(np.unique(groups))
    if units < count:
        what = (
            "pictures" if groups is None else f"groups ({named(sorted(set(listed.groups or ())))})"
        )
        raise OptionError(f"--folds {count}: there are {units} {what}; give as many at most")
    folds = stratified(listed.outcomes, [1 / count] * count, groups=groups)
    for fold in folds:
        if missing := _lacking(listed, np.setdiff1d(np.arange(len(listed.names)), fold)):
            raise DataFormatError(
                f"--folds {count}: all pictures of {named(missing)} are in one fold, so that none "
                "is left to learn from while it is tested on; give more folds, or drop --group-by"
            )
    return tuple(folds)


def _lacking(listed: Listing, rows: Rows) -> list[str]:
    """The labels that none of these pictures has."""
    counts = listed.outcomes[rows].sum(axis=0)
    return [label for label, count in zip(listed.labels, counts, strict=True) if not count]


def _given_parts(
    listed: Listing, part_of: npt.NDArray[np.str_], options: FolderOptions
) -> list[Rows]:
    """The parts that the folder says; what it does not say is torn out of its training part."""
    found = {part: np.flatnonzero(part_of == part) for part in PARTS}
    shares = {"validation": options.validation_split, "test": options.test_split}
    absent = [part for part in PARTS[1:] if not len(found[part])]
    if absent and len(found["train"]):
        torn = [shares[part] for part in absent]
        numbers = listed.group_numbers
        rows = found["train"]
        pieces = stratified(
            listed.outcomes[rows],
            [1 - sum(torn), *torn],
            groups=None if numbers is None else numbers[rows],
        )
        found |= {part: rows[piece] for part, piece in zip(["train", *absent], pieces, strict=True)}
    return [found[part] for part in PARTS]


def _grouped_parts(listed: Listing, groups: tuple[str, ...], options: FolderOptions) -> list[Rows]:
    unknown = sorted(set(options.test_groups) - set(groups))
    counts = Counter(groups)
    if unknown or len(counts) < (2 if options.test_groups else 3):
        there_are = ", ".join(f"{group} ({count})" for group, count in sorted(counts.items()))
        raise OptionError(
            f"--test-groups {unknown[0]}: no such group; there are {there_are}"
            if unknown
            else f"--group-by finds the groups {there_are}; training, validation and test need "
            "one each"
        )
    _, numbers = np.unique(groups, return_inverse=True)
    everything = np.arange(len(groups))
    if not options.test_groups:
        return _split(listed, everything, options.test_split, options.validation_split, numbers)
    is_test = np.isin(groups, options.test_groups)
    rest = everything[~is_test]
    if not len(rest):
        raise OptionError("--test-groups names every group; leave some to train on")
    are_few = len(np.unique(numbers[rest])) < _FEW_GROUPS
    train, validation = _split(
        listed, rest, 0.0, options.validation_split, None if are_few else numbers
    )
    return [train, validation, everything[is_test]]


def _split(
    listed: Listing,
    rows: Rows,
    test: float,
    validation: float,
    groups: npt.NDArray[np.int64] | None = None,
) -> list[Rows]:
    shares = [1 - test - validation, validation, *([test] if test else [])]
    found = stratified(
        listed.outcomes[rows], shares, groups=None if groups is None else groups[rows]
    )
    return [rows[part] for part in found]
