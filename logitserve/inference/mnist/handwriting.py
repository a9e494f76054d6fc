"""Find the handwriting on a sheet, without frames, lines, specks and other objects.

It is found in an overview of reduced size.
"""

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from logitserve.inference.mnist import components

Gray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
"""`[height, width]`."""

INK: Final = 8
"""A pixel is ink above this fraction, 1/8, of the darkest."""
FRAME: Final = 0.6
"""Share of a side that is covered by a frame's bar along it."""
DEEPEST_FRAME: Final = 0.2
"""Maximum width of a frame, as a share of the image."""
LINE: Final = 0.85
"""Share of a ruled line that is visible, including crossing strokes."""
WIDEST_LINE: Final = 0.06
"""Maximum width of a line, as a share of the image's longer side."""
MOST_CROSSINGS: Final = 64
"""Maximum number of border crossings for the line search."""
BEYOND: Final = 0.03
"""Share of the image by which a line extends beyond the handwriting at each end."""
NOTED: Final = 0.01
"""Share of the handwriting's pixels above which other ink causes a warning."""


class Line(NamedTuple):
    """A line from border to border."""

    begin: tuple[float, float]
    """Row and column."""
    end: tuple[float, float]
    width: int


def find(ink: Gray) -> tuple[Mask, bool]:
    """Find handwriting in an overview, uint8 `[h, w]`, 0 on paper to 255.

    Returns:
        the mask of the handwriting, dilated by one pixel, all False without handwriting; and
            whether more ink than single pixels is not in it.
    """
    on = components.inked(ink, INK)
    found = _without_lines(_without_frame(on.view(np.bool_)))
    return found, components.share_outside(on, found.view(np.uint8)) > NOTED


def _without_lines(on: Mask) -> Mask:
    """Return the mask of the main components, without the lines that go beyond them."""
    ruled = lines(on)
    if ruled:
        drawn = _drawn(ruled, on)
        found, wider = components.main_components((on & ~drawn).view(np.uint8))
        if found.any() and all(_goes_beyond(line, found.view(np.bool_)) for line in ruled):
            return wider.view(np.bool_) & ~drawn
    return components.main_components(on.view(np.uint8))[1].view(np.bool_)


def grown(mask: Mask) -> Mask:
    """Dilate with a 3×3 window."""
    return components.grown(mask.view(np.uint8)).view(np.bool_)


def _without_frame(on: Mask) -> Mask:
    """Remove bars along at least three sides: a frame, or the table around the sheet."""
    down, across = (max(1, int(DEEPEST_FRAME * side) // 2) for side in on.shape)
    if components.sides_with_ink(on.view(np.uint8), down, across) < 3:
        return on
    edges = []
    for axis in (1, 0):
        counts = on.sum(axis=axis)
        inked = counts.nonzero()[0]
        if not len(inked):
            return on
        across = on.any(axis=1 - axis).sum()
        covered = counts >= FRAME * max(across, FRAME * on.shape[axis])
        for line in (covered, covered[::-1]):
            deepest = int(DEEPEST_FRAME * len(line))
            begin = int(line[: deepest // 2].argmax()) if deepest > 1 else 0
            depth = int(line[begin:deepest].argmin()) if deepest and line[begin] else 0
            edges.append(begin + depth + 1 if depth else 0)
    if sum(edge > 0 for edge in edges) < 3:
        return on
    top, bottom, left, right = edges
    inside = np.zeros_like(on)
    inside[top : on.shape[0] - bottom, left : on.shape[1] - right] = True
    return on & inside


def _crossings(on: Mask, widest: float) -> list[tuple[float, float, int, int]]:
    """Return where ink crosses the border: row, column, width and side; wide ones are omitted."""
    height, width = on.shape
    found = []
    sides = ((on[0], 0, 0), (on[-1], 0, height - 1), (on[:, 0], 1, 0), (on[:, -1], 1, width - 1))
    for side, (edge, axis, fixed) in enumerate(sides):
        if not edge.any():
            continue
        steps = np.flatnonzero(np.diff(edge, prepend=False, append=False)).tolist()
        for begin, end in pairwise(steps):
            if edge[begin] and end - begin <= widest:
                middle = (begin + end - 1) / 2
                at = (fixed, middle) if axis == 0 else (middle, fixed)
                found.append((*at, end - begin, side))
    return found


def lines(on: Mask, widest: float = WIDEST_LINE) -> list[Line]:
    """Find straight lines of ink from border to border, ruled or other.

    `widest` is the maximum width of a line, as a share of the longer side.
    """
    if not components.sides_with_ink(on.view(np.uint8), 1, 1):
        return []
    crossings = _crossings(on, widest * max(on.shape))
    if not 2 <= len(crossings) <= MOST_CROSSINGS:
        return []
    rows, columns, widths, sides = np.array(crossings).T
    first, second = np.triu_indices(len(crossings), 1)
    apart = np.hypot(rows[first] - rows[second], columns[first] - columns[second])
    far = (sides[first] != sides[second]) & (apart > min(on.shape) / 2)
    first, second = first[far], second[far]
    steps = np.linspace(0, 1, max(on.shape) // 2)
    down = np.outer(rows[first], 1 - steps) + np.outer(rows[second], steps)
    right = np.outer(columns[first], 1 - steps) + np.outer(columns[second], steps)
    inked = on[np.rint(down).astype(np.intp), np.rint(right).astype(np.intp)].mean(axis=1)
    return [
        Line(
            (float(rows[one]), float(columns[one])),
            (float(rows[other]), float(columns[other])),
            int(min(widths[one], widths[other])),
        )
        for one, other in zip(
            first[inked >= LINE].tolist(), second[inked >= LINE].tolist(), strict=True
        )
    ]


def _drawn(ruled: list[Line], on: Mask) -> Mask:
    """Return the pixels of the lines, except where wider strokes cross them."""
    image = Image.new("L", on.shape[::-1])
    pencil = ImageDraw.Draw(image)
    for line in ruled:
        pencil.line([*line.begin[::-1], *line.end[::-1]], fill=255, width=line.width + 2)
    reach = max(line.width for line in ruled) + 1
    thick = on
    for axis in (0, 1):  # opening of `on` with a square of that size, which is put back then
        for _ in range(reach):
            thick = thick & np.roll(thick, 1, axis)
    for axis in (0, 1):
        for _ in range(reach):
            thick = thick | np.roll(thick, -1, axis)
    return np.asarray((np.asarray(image) > 0) & ~thick)


def _goes_beyond(line: Line, found: Mask) -> bool:
    """Return whether both ends lie outside the mask found, not at the end of a stroke."""
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    margin = BEYOND * max(found.shape)
    return all(
        not (
            rows[0] - margin < row < rows[-1] + margin
            and columns[0] - margin < column < columns[-1] + margin
        )
        for row, column in (line.begin, line.end)
    )
