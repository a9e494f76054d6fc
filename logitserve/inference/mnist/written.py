"""Check that ink was written: that it is not the edge of a shadow, specks or a line."""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.mnist import components, contrast, handwriting, segment, strokes

Gray = npt.NDArray[np.uint8]

STANDS_OUT: Final = 0.7
"""Minimum contrast of ink with both of its sides, relative to that with the paper (measured on
digits of MNIST's validation part on disturbed sheets without panes and blinds: 99.5 % above 0.88;
on edges of shadows and torn paper: median 0)."""
IN_ONE: Final = 0.5
"""Minimum share of the ink in its largest component (measured on the same digits: 99.8 % above
0.54; on specks at most 0.33)."""

BAR: Final = 0.12
"""Spread across a straight bar / spread along it (measured on digits: at least 0.14)."""
FINE: Final = 0.06
"""Spread across a fine line / spread along it."""
GOES_ON: Final = 0.75
"""Minimum inked share of the distance from a straight bar to the borders, if the bar is part of a
line (measured on the same digits: at most 0.65; on lines and folds 1)."""
COMPACT: Final = 0.7
"""Isoperimetric quotient, 1 for a disk, above which a piece of ink is a spot, not a stroke
(measured on MNIST: main pieces at most 0.69)."""
OF_SHAPES: Final = 0.5
"""Share of the ink in spots and boxes, above which it is not handwriting."""
BOX: Final = 0.85
"""Minimum share of a rectangle's sides that have ink (measured on MNIST: at most 0.78)."""
BOX_DEPTH: Final = 2
"""Pixels of the 28×28 image, within which ink is on a side of its box."""
BOX_SIDE: Final = 8
"""Pixels of the 28×28 image: a narrower box is a bar, and may be a 1."""

_FEW: Final = 4
"""Number of pixels below which they have no direction."""


def stands_out(
    image: Gray, ink: Gray, corner: tuple[int, int], scene: segment.Scene, width: float
) -> bool:
    """Return whether dark ink has lighter paper on both sides (light ink: darker paper).

    The edge of a shadow has it on one side only. Ink is compared with the closing of the image,
    with a window wider than the strokes.

    Args:
        image: uint8, `[h, w]`.
        ink: ink of a part of it, 0 on paper to 255, not all 0.
        corner: first row and column of that part.
        scene: ink and paper of the image.
        width: width of the strokes in pixels.
    """
    window = 2 * int(np.ceil(width)) + 3
    with_paper, with_both_sides = contrast.contrasts(
        image, ink, *corner, scene.dark_ink, scene.paper, window
    )
    return with_both_sides >= STANDS_OUT * with_paper


def is_in_one(ink: Gray) -> bool:
    """Return whether most of the ink, uint8 `[h, w]`, not all 0, is in one component."""
    return components.in_largest(ink) >= IN_ONE


def is_of_shapes(digit: Gray) -> bool:
    """Return whether most of the ink, uint8 `[h, w]`, not all 0, is in spots and empty boxes."""
    total = in_shapes = 0
    for piece in components.in_pieces(digit):
        mass, outline, _ = strokes.slopes(piece)
        total += mass
        if 4 * np.pi * 255 * mass > COMPACT * outline**2 or _is_box(piece):
            in_shapes += mass
    return in_shapes > OF_SHAPES * total


def _is_box(piece: Gray) -> bool:
    """Return whether a piece, with a pixel around its box, is an empty box."""
    box = np.ascontiguousarray(piece[1:-1, 1:-1])
    return min(box.shape) >= BOX_SIDE and components.share_of_border(box, BOX_DEPTH) >= BOX


def goes_on(ink: Gray, everything: Gray) -> bool:
    """Return whether `ink` is a straight bar in a border-to-border line of `everything`."""
    full = ink > ink.max() // 2
    if not is_bar(full, BAR):
        return False
    places = np.argwhere(full)
    middle, axis = places.mean(axis=0), np.linalg.eigh(np.cov(places.T))[1][:, 1]
    along = (places - middle) @ axis
    steps = np.arange(-sum(ink.shape), sum(ink.shape))
    beyond = steps[(steps < along.min() - 1) | (steps > along.max() + 1)]
    way = np.rint(middle + beyond[:, np.newaxis] * axis).astype(np.intp)
    rows, columns = way[((way >= 0) & (way < ink.shape)).all(axis=1)].T
    near = handwriting.grown(everything > everything.max() // handwriting.INK)
    return bool(len(rows) and near[rows, columns].mean() >= GOES_ON)


def is_bar(where: npt.NDArray[np.bool_], most: float) -> bool:
    """Return whether the ratio of the pixels' spreads across and along is at most `most`."""
    places = np.nonzero(where)
    if len(places[0]) < _FEW:
        return False
    across, along = np.linalg.eigvalsh(np.cov(places))
    return bool(across < most**2 * along)
