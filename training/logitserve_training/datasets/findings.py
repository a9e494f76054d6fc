"""What a folder holds, said before it is learned from, with what speaks against it."""

from collections import Counter
from typing import Final

from logitserve.inference.card import InputSpec
from logitserve_training.datasets import duplicates
from logitserve_training.datasets.dataset import Images
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.parts import PART_NAMES, REMEDY
from logitserve_training.datasets.splits import Rows
from logitserve_training.progress import Reporter

_TWINS: Final = 0.05
"""Share of near-duplicates across parts above which a test says little."""
_FEW_OF_LABEL: Final = 5
"""Pictures of a label in a part below which a figure of it says next to nothing."""
_FEW_OF_CLASS: Final = 10
"""Pictures of a class below which a person is told to take more."""


def report(
    listed: Listing, parts: list[Rows], images: Images, spec: InputSpec, reporter: Reporter
) -> None:
    """What was found, and a warning where the parts are not independent."""
    reporter.line(
        f"{len(images)} pictures, fit {spec.fit} to {spec.height}×{spec.width}×{spec.channels}"
    )
    for rows, name in zip(parts, PART_NAMES, strict=True):
        held = Counter() if listed.groups is None else Counter(listed.groups[row] for row in rows)
        of_groups = ", ".join(f"{group} ({count})" for group, count in held.most_common(8))
        reporter.line(f"  {name}: {len(rows)} pictures" + (f", groups {of_groups}" if held else ""))
    totals = listed.outcomes.sum(axis=0).tolist()
    scarce = [
        f"{label} ({count})"
        for label, count in zip(listed.labels, totals, strict=True)
        if count < _FEW_OF_CLASS
    ]
    if scarce:
        reporter.line(
            f"WARNING: fewer than {_FEW_OF_CLASS} pictures of {named(scarce)}: too few to learn "
            "from reliably; add pictures of them"
        )
    for rows, name in zip(parts[1:], PART_NAMES[1:], strict=True):
        counts = listed.outcomes[rows].sum(axis=0).tolist()
        few = [
            f"{label} ({count})"
            for label, count in zip(listed.labels, counts, strict=True)
            if count < _FEW_OF_LABEL
        ]
        if few:
            reporter.line(
                f"WARNING: the {name} part has few pictures of {named(few)}: what is said "
                f"of them there is a guess below {_FEW_OF_LABEL}; {REMEDY}"
            )
    _warn_of_twins(listed, parts, images, reporter)


def _warn_of_twins(listed: Listing, parts: list[Rows], images: Images, reporter: Reporter) -> None:
    """Say where parts hold near-copies of each other: more than chance makes of two classes."""
    hashed = duplicates.hashes(images)
    for one, other in ((2, 0), (1, 0), (2, 1)):
        twins, by_chance = duplicates.shares_with_twin(
            (hashed[parts[one]], listed.outcomes[parts[one]]),
            (hashed[parts[other]], listed.outcomes[parts[other]]),
        )
        if twins - by_chance > _TWINS:
            reporter.line(
                f"WARNING: {twins:.0%} of the {PART_NAMES[one]} pictures look nearly like a "
                f"{PART_NAMES[other]} picture of the same labels (by chance {by_chance:.0%}), so "
                "the figures below may be far too good for new pictures; if pictures come from one "
                "film, place or person, keep them together with --group-by"
            )
