"""Whether what was found on a sheet was written: not the edge of a shadow, specks or a line."""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.mnist import handwriting, segment

Gray = npt.NDArray[np.uint8]

STANDS_OUT: Final = 0.7
"""Share of the ink's contrast with the paper that it has with what lies on both sides of it, at
least (measured of digits of MNIST's validation part on disturbed sheets, but for panes and blinds:
99.5 % above 0.88; of edges of shadows and torn paper: median 0)."""
IN_ONE: Final = 0.5
"""Share of the ink that is in its largest piece, at least (measured of the same digits: 99.8 %
above 0.54; of specks at most 0.33)."""

BAR: Final = 0.12
"""Spread across a straight bar over that along it (measured of digits: at least 0.14)."""
FINE: Final = 0.06
"""The same across a fine line."""
GOES_ON: Final = 0.75
"""Share of the way from a straight bar to the borders that is inked too, if the bar is part of a
line, at least (measured of the same digits: at most 0.65; of lines and folds 1)."""

_FEW: Final = 4
"""Pixels that have no direction."""


def stands_out(
    image: Gray, ink: Gray, place: tuple[slice, slice], scene: segment.Scene, width: float
) -> bool:
    """Whether the paper on both sides of the ink is lighter, where ink is dark.

    Beside the edge of a shadow it is on one side only. Ink is compared with the closing of the
    image, by a window that is wider than the strokes.

    Args:
        image: uint8, `[h, w]`.
        ink: of a part of it, 0 on paper to 255, with some.
        place: rows and columns of that part.
        scene: what ink and paper are in it.
        width: of the strokes, pixels.
    """
    window = 2 * int(np.ceil(width)) + 3
    margin = window - 1
    down, across = (
        np.arange(at.start - margin, at.stop + margin).clip(0, side - 1)
        for at, side in zip(place, image.shape, strict=True)
    )
    around = image[down][:, across]
    dark = around if scene.dark_ink else ~around
    inside = dark[margin:-margin, margin:-margin]
    full = ink > ink.max() // 2
    paper = scene.paper[place] if scene.paper.ndim else scene.paper
    contrast = np.subtract(paper, inside, dtype=np.int16)[full].sum()
    both_sides = (segment.closed(dark, window) - inside)[full].sum(dtype=np.int64)
    return bool(both_sides >= STANDS_OUT * contrast)


def is_in_one(ink: Gray) -> bool:
    """Whether most of the ink, uint8 `[h, w]` with some, is in one piece."""
    sizes = handwriting.sizes(ink > ink.max() // 2)
    return bool(sizes.max() >= IN_ONE * sizes.sum())


def goes_on(ink: Gray, everything: Gray) -> bool:
    """Whether ink is a straight bar and part of a line of all the ink, from border to border."""
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
    """Whether the spread of the pixels in one direction is at most that share of the other's."""
    places = np.nonzero(where)
    if len(places[0]) < _FEW:
        return False
    across, along = np.linalg.eigvalsh(np.cov(places))
    return bool(across < most**2 * along)
