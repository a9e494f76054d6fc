"""Find the handwriting on a sheet, without frames, lines, specks and other objects.

Connected components are found from runs of pixels (Rosenfeld and Pfaltz 1966, "Sequential
Operations in Digital Picture Processing"), in an overview of reduced size.
"""

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

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
SPECK: Final = 0.04
"""Share of the largest component's pixels below which a component is a speck."""
NOTED: Final = 0.01
"""Share of the handwriting's pixels above which other ink causes a warning."""
APART: Final = 0.35
"""The share for a component that is not close to the largest one."""
CONTACT: Final = 0.25
"""Share of a side above which a component along the border is not handwriting."""
OWN: Final = 0.1
"""Share of the largest component, and of the image's longer side, above which a component inside is
preferred as handwriting to one at the border."""
BY: Final = 0.15
"""Distance / longer side of the largest component, within which others are close to it."""
SMALLEST: Final = 0.075
"""Share of the image's longer side below which a component is a dot, not a digit."""
FULL: Final = 0.5
"""Filled share of its box above which a component at the border is a shadow, unless slender."""
SLENDER: Final = 2.2
"""Aspect ratio of a 1."""
CLOSE: Final = 1.5
"""Aspect ratio of a picture that was cropped to a 1."""
FLAT: Final = 2.2
"""Width / height above which a component is a dash (measured on MNIST: at most 2)."""


class Line(NamedTuple):
    """A line from border to border."""

    begin: tuple[float, float]
    """Row and column."""
    end: tuple[float, float]
    width: int


class Pieces(NamedTuple):
    """Connected components, 8-connected, as runs along rows."""

    begins: npt.NDArray[np.intp]
    """Per run: index of its first pixel in the flattened mask with one additional column."""
    ends: npt.NDArray[np.intp]
    """Per run: index after its last pixel."""
    of: npt.NDArray[np.intp]
    """Per run: number of its component."""
    sizes: npt.NDArray[np.intp]
    """Per component: number of pixels."""
    boxes: npt.NDArray[np.intp]
    """`[n, 4]`: top, left, bottom, right of each component; the last two are exclusive."""
    foreign: Mask
    """Per component: whether it touches the border unlike handwriting."""
    along: Mask
    """Per component: whether it lies along the border; then it is foreign too."""


def find(ink: Gray) -> Mask:
    """Return the mask of handwriting in an overview (0 on paper to 255), dilated by one pixel.

    All False without handwriting.
    """
    on = _without_frame(ink > ink.max() // INK)
    ruled = lines(on)
    if ruled:
        drawn = _drawn(ruled, on)
        found = _main_pieces(on & ~drawn)
        if found.any() and all(_goes_beyond(line, found) for line in ruled):
            return grown(found) & ~drawn
    return grown(_main_pieces(on))


def leaves_out(ink: Gray, found: Mask) -> bool:
    """Return whether `find` left out more ink than single pixels."""
    on = ink > ink.max() // INK
    return int(np.count_nonzero(on & ~found)) > NOTED * int(np.count_nonzero(found))


def grown(mask: Mask) -> Mask:
    """Dilate with a 3×3 window."""
    height, width = mask.shape
    field = np.zeros((height + 2, width + 2), np.bool_)  # padded, so that rows are separate
    field[1:-1, 1:-1] = mask
    flat = field.ravel()
    wide = flat.copy()
    wide[1:] |= flat[:-1]
    wide[:-1] |= flat[1:]
    rows = wide.reshape(field.shape)
    tall = rows[:-2] | rows[1:-1]
    tall |= rows[2:]
    return np.ascontiguousarray(tall[:, 1:-1])


def _without_frame(on: Mask) -> Mask:
    """Remove bars along at least three sides: a frame, or the table around the sheet."""
    near = [max(1, int(DEEPEST_FRAME * side) // 2) for side in on.shape]
    bands = on[: near[0]], on[-near[0] :], on[:, : near[1]], on[:, -near[1] :]
    if sum(bool(band.any()) for band in bands) < 3:
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


def _main_pieces(on: Mask) -> Mask:
    """Return the largest component that may be a digit, and those close to it."""
    if not on.any():
        return on
    found = pieces(on)
    sizes, boxes = found.sizes, found.boxes
    longest = max(on.shape)
    tall, wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    longer = np.maximum(tall, wide)
    likely = (longer >= SMALLEST * longest) & (wide < FLAT * tall)
    slender = longer >= SLENDER * np.minimum(tall, wide)
    if longest < CLOSE * min(on.shape):  # only a closely cropped picture has a 1 there
        slender &= ~found.along
    likely &= ~(found.foreign & (sizes >= FULL * tall * wide) & ~slender)
    if len(sizes) == 1:
        return np.asarray(on & likely)
    own = likely & ~found.foreign & (sizes >= OWN * sizes.max()) & (longer >= OWN * longest)
    candidates = own if own.any() else likely
    if not candidates.any():
        return np.zeros_like(on)
    main = int(np.where(candidates, sizes, 0).argmax())
    margin = BY * longer[main]
    top, left, bottom, right = boxes[main] + [-margin, -margin, margin, margin]
    row, column = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    near = (top < row) & (row < bottom) & (left < column) & (column < right)
    wanted = (sizes >= np.where(near, SPECK, APART) * sizes[main]) & ~(own.any() & found.foreign)
    wanted = wanted[found.of]
    steps = np.zeros((on.shape[0], on.shape[1] + 1), np.int8)
    steps.ravel()[found.begins[wanted]] = 1
    steps.ravel()[found.ends[wanted]] = -1
    return np.asarray(steps.cumsum(axis=1, dtype=np.int8)[:, :-1] > 0)


def pieces(on: Mask) -> Pieces:
    """The pieces of a mask that is not all False."""
    (height, width), stride = on.shape, on.shape[1] + 1
    begins, ends, numbers = _runs(on)
    order = numbers.argsort(kind="stable")
    begins, ends, of = begins[order], ends[order], numbers[order]
    starts = of.searchsorted(np.arange(of[-1] + 1))
    rows = begins // stride
    left, lengths = begins - rows * stride, ends - begins
    right = left + lengths
    extremes = (np.minimum, rows), (np.minimum, left), (np.maximum, rows + 1), (np.maximum, right)
    boxes = np.array([extreme.reduceat(of_run, starts) for extreme, of_run in extremes]).T
    sides = (boxes == [0, 0, height, width]).sum(axis=1)
    lies = np.zeros(len(sides), np.bool_)
    for at, pixels, length in (
        ()
        if not sides.any()
        else (
            (rows == 0, lengths, width),
            (rows == height - 1, lengths, width),
            (left == 0, 1, height),
            (right == width, 1, height),
        )
    ):
        lies |= np.add.reduceat(at * pixels, starts) >= CONTACT * length
    sizes = np.add.reduceat(lengths, starts)
    return Pieces(begins, ends, of, sizes, boxes, lies | (sides >= 2), lies)


def sizes(on: Mask) -> npt.NDArray[np.float64]:
    """The pixels of each piece of a mask that is not all False."""
    begins, ends, numbers = _runs(on)
    return np.asarray(np.bincount(numbers, ends - begins))


def _runs(on: Mask) -> tuple[npt.NDArray[np.intp], ...]:
    """Begins, ends and numbers of the pieces of the runs, as in `Pieces`, row by row."""
    height, stride = on.shape[0], on.shape[1] + 1
    flat = np.zeros(height * stride + 1, np.bool_)
    flat[1:].reshape(height, stride)[:, :-1] = on
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    begins, ends = changes[::2], changes[1::2]
    return begins, ends, np.array(_numbers(begins.tolist(), ends.tolist(), stride))


def _numbers(begins: list[int], ends: list[int], stride: int) -> list[int]:
    """Return the component number of each run; components are numbered by their first run."""
    roots = list(range(len(begins)))
    first = 0  # first run of the row above that is not left of this run
    for run, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        left, right = begin - stride, end - stride
        while ends[first] < left:
            first += 1
        root, above = run, first
        while begins[above] <= right:
            other = roots[above]
            while roots[other] != other:
                roots[other] = other = roots[roots[other]]
            if root < other:
                roots[other] = root
            else:
                roots[root] = other
                root = other
            above += 1
    count = 0
    for run, earlier in enumerate(roots):  # an earlier run of its component, already numbered
        if earlier == run:
            roots[run] = count
            count += 1
        else:
            roots[run] = roots[earlier]
    return roots
