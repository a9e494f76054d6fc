"""What a folder holds, said before it is learned from, with what speaks against it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import InputSpec
from logitserve_training.datasets import duplicates
from logitserve_training.datasets.dataset import Images
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.parts import PART_NAMES, REMEDY, Parts
from logitserve_training.progress import Reporter

_TWINS: Final = 0.05
"""Share of near-duplicates across parts above which a test says little."""
_FEW_OF_LABEL: Final = 5
"""Pictures of a label in a part below which a figure of it says next to nothing."""
_FEW_OF_CLASS: Final = 10
"""Pictures of a class below which a person is told to take more."""


def report(
    listed: Listing, parts: Parts, images: Images, spec: InputSpec, reporter: Reporter
) -> list[tuple[int, int]]:
    """Say what was found, and warn where little can be learned or the parts are not independent.

    Returns:
        the rows of near-copies: one that is tested on, and one that is learned from.
    """
    reporter.line(
        f"{len(images)} pictures, fit {spec.fit} to {spec.height}×{spec.width}×{spec.channels}"
    )
    if parts.folds:
        sizes = sorted(map(len, parts.folds))
        reporter.line(
            f"  {len(sizes)} folds of {sizes[0]} to {sizes[-1]} pictures: each is tested on by a "
            "head that was fitted to the others; the model is fitted to all"
        )
    else:
        _report_parts(listed, parts, reporter)
    totals = listed.outcomes.sum(axis=0)
    if scarce := _fewer(listed.labels, totals, _FEW_OF_CLASS):
        reporter.line(
            f"WARNING: fewer than {_FEW_OF_CLASS} pictures of {scarce}: too few to learn "
            "from reliably; add pictures of them"
        )
    return _near_copies(listed, parts, images, reporter)


def _report_parts(listed: Listing, parts: Parts, reporter: Reporter) -> None:
    for rows, name in zip(parts[:3], PART_NAMES, strict=True):
        held = Counter() if listed.groups is None else Counter(listed.groups[row] for row in rows)
        of_groups = ", ".join(f"{group} ({count})" for group, count in held.most_common(8))
        reporter.line(f"  {name}: {len(rows)} pictures" + (f", groups {of_groups}" if held else ""))
    for rows, name in zip(parts[1:3], PART_NAMES[1:], strict=True):
        if few := _fewer(listed.labels, listed.outcomes[rows].sum(axis=0), _FEW_OF_LABEL):
            reporter.line(
                f"WARNING: the {name} part has few pictures of {few}: what is said of them there "
                f"is a guess below {_FEW_OF_LABEL}; {REMEDY}"
            )


def _fewer(labels: Sequence[str], counts: npt.NDArray[np.int64], least: int) -> str:
    """The labels of fewer pictures, with how many; empty where there are none."""
    return named(
        [f"{label} ({n})" for label, n in zip(labels, counts.tolist(), strict=True) if n < least]
    )


def _near_copies(
    listed: Listing, parts: Parts, images: Images, reporter: Reporter
) -> list[tuple[int, int]]:
    """Pictures that are tested on and look as one that is learned from: more than by chance."""
    tested = parts.folds or (parts.test,)
    found = [duplicates.twins(images, listed.outcomes, rows) for rows in tested]
    pairs = [pair for one in found for pair in one.pairs]
    by_chance = sum(one.by_chance for one in found)
    count = sum(map(len, tested))
    if len(pairs) - by_chance <= _TWINS * count:
        return []
    one, other = (listed.names[row] for row in pairs[0])
    reporter.line(
        f"WARNING: {len(pairs) / count:.0%} of the pictures that are tested on look nearly like a "
        f"picture of the same labels that is learned from (by chance {by_chance / count:.0%}), as "
        f"{one} like {other}, so the figures below may be far too good for new pictures; if "
        "pictures come from one film, place or person, keep them together with --group-by"
    )
    return pairs


def warn_of_contradictions(listed: Listing, contents: Sequence[str], reporter: Reporter) -> None:
    """Say which pictures have other labels than a copy of them, by their contents' digests."""
    first: dict[str, int] = {}
    pairs = [
        f"{listed.names[row]} is also {listed.names[other]}"
        for row, content in enumerate(contents)
        if (listed.outcomes[row] != listed.outcomes[other := first.setdefault(content, row)]).any()
    ]
    if pairs:
        reporter.line(
            f"WARNING: {len(pairs)} pictures have other labels than copies of them, so that one of "
            f"both is wrong: {named(pairs)}"
        )
