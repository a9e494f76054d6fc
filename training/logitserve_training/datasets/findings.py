"""Report the contents of a folder before training, with warnings."""

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
"""Share of near-duplicates across parts above which a warning is given."""
_FEW_OF_LABEL: Final = 5
"""Pictures of a label per part below which its metrics are unreliable."""
_FEW_OF_CLASS: Final = 10
"""Pictures of a class below which a warning is given."""


def report(
    listed: Listing, parts: Parts, images: Images, spec: InputSpec, reporter: Reporter
) -> list[tuple[int, int]]:
    """Report the data, and warn of scarce classes and of dependent parts.

    Returns:
        the rows of near-duplicates: one in the test part, one in the training part.
    """
    reporter.line(
        f"{len(images)} pictures, fit {spec.fit} to {spec.height}×{spec.width}×{spec.channels}"
    )
    if parts.folds:
        sizes = sorted(map(len, parts.folds))
        reporter.line(
            f"  {len(sizes)} folds of {sizes[0]} to {sizes[-1]} pictures: each is tested on with a "
            "head fitted to the others; the final model is fitted to all"
        )
    else:
        _report_parts(listed, parts, reporter)
    totals = listed.outcomes.sum(axis=0)
    if scarce := _fewer(listed.labels, totals, _FEW_OF_CLASS):
        reporter.line(
            f"WARNING: fewer than {_FEW_OF_CLASS} pictures of {scarce}: too few to learn "
            "reliably; add pictures"
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
                f"WARNING: the {name} part has few pictures of {few}: metrics of these labels "
                f"are unreliable below {_FEW_OF_LABEL}; {REMEDY}"
            )


def _fewer(labels: Sequence[str], counts: npt.NDArray[np.int64], least: int) -> str:
    """Return the labels with fewer pictures, with counts; empty if there are none."""
    return named(
        [f"{label} ({n})" for label, n in zip(labels, counts.tolist(), strict=True) if n < least]
    )


def _near_copies(
    listed: Listing, parts: Parts, images: Images, reporter: Reporter
) -> list[tuple[int, int]]:
    """Return near-duplicates between test and training parts, if more than by chance."""
    tested = parts.folds or (parts.test,)
    found = [duplicates.twins(images, listed.outcomes, rows) for rows in tested]
    pairs = [pair for one in found for pair in one.pairs]
    by_chance = sum(one.by_chance for one in found)
    count = sum(map(len, tested))
    if len(pairs) - by_chance <= _TWINS * count:
        return []
    one, other = (listed.names[row] for row in pairs[0])
    reporter.line(
        f"WARNING: {len(pairs) / count:.0%} of the test pictures are near-duplicates of a "
        f"training picture with the same labels (by chance {by_chance / count:.0%}), such as "
        f"{one} of {other}, so the metrics below may be far too good for new pictures; if "
        "pictures come from one film, place or person, keep them together with --group-by"
    )
    return pairs


def warn_of_contradictions(listed: Listing, contents: Sequence[str], reporter: Reporter) -> None:
    """Warn of copies, by content digest, that have different labels."""
    first: dict[str, int] = {}
    pairs = [
        f"{listed.names[row]} is also {listed.names[other]}"
        for row, content in enumerate(contents)
        if (listed.outcomes[row] != listed.outcomes[other := first.setdefault(content, row)]).any()
    ]
    if pairs:
        reporter.line(
            f"WARNING: {len(pairs)} pictures have other labels than a copy of them, so one of "
            f"the two is wrong: {named(pairs)}"
        )
