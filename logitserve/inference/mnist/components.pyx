# cython: wraparound=False, initializedcheck=False
"""Connected components of ink, compiled.

Components are 8-connected, and found from runs of pixels (Rosenfeld and Pfaltz 1966, "Sequential
Operations in Digital Picture Processing"). Masks are uint8 `[h, w]`, 0 or 1, C-contiguous. Indices
are checked, except in loops that are plainly within the bounds.
"""

cimport cython

from libc.string cimport memchr

from logitserve.inference.mnist.levels cimport WHITE, Gray, maximum, uint8

import numpy as np

cdef double SPECK = 0.04
"""Share of the largest component's pixels below which a component is a speck."""
cdef double APART = 0.35
"""The share for a component that is not close to the largest one."""
cdef double CONTACT = 0.25
"""Share of a side above which a component along the border is not handwriting."""
cdef double OWN = 0.1
"""Share of the largest component, and of the image's longer side, above which a component inside is
preferred as handwriting to one at the border."""
cdef double BY = 0.15
"""Distance / longer side of the largest component, within which others are close to it."""
cdef double SMALLEST = 0.075
"""Share of the image's longer side below which a component is a dot, not a digit."""
cdef double FULL = 0.5
"""Filled share of its box above which a component at the border is a shadow, unless slender."""
cdef double SLENDER = 2.2
"""Aspect ratio of a 1."""
CLOSE = 1.5
"""Aspect ratio of a picture that was cropped to a 1."""
cdef double FLAT = 2.2
"""Width / height above which a component is a dash (measured on MNIST: at most 2)."""


cdef enum:
    # Columns of the runs, one row each.
    ROW, BEGIN, END, COMPONENT
    COLUMNS

cdef enum:
    # Columns of the components; the last four: pixels along the borders of the image.
    SIZE, TOP, LEFT, BOTTOM, RIGHT, AT_TOP, AT_BOTTOM, AT_LEFT, AT_RIGHT
    PROPERTIES


def inked(Gray ink, int share):
    """Return the mask of the pixels above 1/`share` of the darkest ink."""
    result = np.empty((ink.shape[0], ink.shape[1]), np.uint8)
    cdef uint8[:, ::1] on = result
    _compare(ink, maximum(&ink[0, 0], ink.shape[0] * ink.shape[1]) // share, on)
    return result


@cython.boundscheck(False)
cdef void _compare(Gray ink, int faintest, uint8[:, ::1] on) noexcept nogil:
    cdef Py_ssize_t y, x
    for y in range(ink.shape[0]):
        for x in range(ink.shape[1]):
            on[y, x] = ink[y, x] > faintest


@cython.boundscheck(False)
def sides_with_ink(Gray on, Py_ssize_t down, Py_ssize_t across):
    """Return how many of the four bands along the borders have ink.

    The bands at the top and the bottom have `down` rows, the others `across` columns.
    """
    cdef Py_ssize_t height = on.shape[0], width = on.shape[1], y, x
    cdef bint top = False, bottom = False, left = False, right = False
    with nogil:
        for y in range(height):
            if memchr(&on[y, 0], 1, width) != NULL:
                top |= y < down
                bottom |= y >= height - down
            left |= memchr(&on[y, 0], 1, min(across, width)) != NULL
            right |= memchr(&on[y, max(width - across, 0)], 1, min(across, width)) != NULL
    return top + bottom + left + right


def in_largest(Gray ink):
    """Return the share of the full ink that is in its largest component; ink must not be all 0."""
    cdef int[:, ::1] runs = np.empty((_most_runs(ink), COLUMNS), np.int32)
    on = np.empty((ink.shape[0], ink.shape[1]), np.uint8)
    _compare(ink, maximum(&ink[0, 0], ink.shape[0] * ink.shape[1]) // 2, on)
    cdef Py_ssize_t count, number = _find_runs(on, runs), run, largest = 0, total = 0
    count = _join(runs, number)
    cdef Py_ssize_t[::1] sizes = np.zeros(count, np.intp)
    for run in range(number):
        sizes[runs[run, COMPONENT]] += runs[run, END] - runs[run, BEGIN]
    for run in range(count):
        largest = max(largest, sizes[run])
        total += sizes[run]
    return largest / <double>total


def in_pieces(Gray ink):
    """Yield each component of the full ink, from 128 on, in its box and a pixel around it, uint8.

    The fainter ink in the eight neighbors of a component belongs to it; other faint ink is omitted.
    """
    cdef int[:, ::1] runs = np.empty((_most_runs(ink), COLUMNS), np.int32)
    on = np.empty((ink.shape[0], ink.shape[1]), np.uint8)
    _compare(ink, WHITE // 2, on)
    cdef Py_ssize_t number = _find_runs(on, runs), count = _join(runs, number), part
    cdef int[:, ::1] parts = np.zeros((count, PROPERTIES), np.int32)
    _measure(runs, number, ink.shape[0], ink.shape[1], parts)
    cdef int[:, ::1] labels = np.full((ink.shape[0] + 2, ink.shape[1] + 2), -1, np.int32)
    _label(runs, number, labels)
    for part in range(count):
        height = parts[part, BOTTOM] - parts[part, TOP] + 2
        width = parts[part, RIGHT] - parts[part, LEFT] + 2
        piece = np.zeros((height, width), np.uint8)
        _copy(ink, labels, part, parts[part, TOP] - 1, parts[part, LEFT] - 1, piece)
        yield piece


@cython.boundscheck(False)
cdef void _label(int[:, ::1] runs, Py_ssize_t number, int[:, ::1] labels) noexcept nogil:
    """Write the component of each pixel; the first pixel is in row and column 1."""
    cdef Py_ssize_t run, column
    for run in range(number):
        for column in range(runs[run, BEGIN], runs[run, END]):
            labels[runs[run, ROW] + 1, column + 1] = runs[run, COMPONENT]


@cython.boundscheck(False)
cdef void _copy(
    Gray ink, int[:, ::1] labels, int part, Py_ssize_t top, Py_ssize_t left, uint8[:, ::1] piece
) noexcept nogil:
    """Copy the ink of a component, and of its neighbors that are in none."""
    cdef Py_ssize_t y, x, row, column
    for row in range(max(top, 0), min(top + piece.shape[0], ink.shape[0])):
        for column in range(max(left, 0), min(left + piece.shape[1], ink.shape[1])):
            y, x = row + 1, column + 1
            if labels[y, x] == part or (
                labels[y, x] == -1
                and (
                    labels[y - 1, x - 1] == part or labels[y - 1, x] == part
                    or labels[y - 1, x + 1] == part or labels[y, x - 1] == part
                    or labels[y, x + 1] == part or labels[y + 1, x - 1] == part
                    or labels[y + 1, x] == part or labels[y + 1, x + 1] == part
                )
            ):
                piece[row - top, column - left] = ink[row, column]


@cython.boundscheck(False)
def share_of_border(Gray ink, Py_ssize_t depth):
    """Return the share of the image's border that has full ink, from 128 on, within `depth` pixels.

    It is seen from outside: each row at its left and right end, each column at its top and bottom.
    """
    cdef Py_ssize_t height = ink.shape[0], width = ink.shape[1], y, x, step, seen = 0
    cdef Py_ssize_t down = min(depth, height), across = min(depth, width)
    cdef bint first, last
    with nogil:
        for y in range(height):
            first = last = False
            for step in range(across):
                first |= ink[y, step] >> 7
                last |= ink[y, width - 1 - step] >> 7
            seen += first + last
        for x in range(width):
            first = last = False
            for step in range(down):
                first |= ink[step, x] >> 7
                last |= ink[height - 1 - step, x] >> 7
            seen += first + last
    return seen / <double>(2 * (height + width))


def main_components(Gray on):
    """Find the largest component that may be a digit, and those close to it.

    Returns:
        their mask, all 0 without such a component; and the mask dilated with a 3×3 window.
    """
    cdef int[:, ::1] runs = np.empty((_most_runs(on), COLUMNS), np.int32)
    cdef Py_ssize_t number = _find_runs(on, runs), count = _join(runs, number), run
    cdef int[:, ::1] parts = np.zeros((count, PROPERTIES), np.int32)
    _measure(runs, number, on.shape[0], on.shape[1], parts)
    cdef uint8[::1] wanted = np.zeros(count, np.uint8)
    _choose(parts, on.shape[0], on.shape[1], wanted)
    result = np.zeros((on.shape[0], on.shape[1]), np.uint8)
    cdef uint8[:, ::1] mask = result
    cdef Py_ssize_t x
    for run in range(number):
        if wanted[runs[run, COMPONENT]]:
            for x in range(runs[run, BEGIN], runs[run, END]):
                mask[runs[run, ROW], x] = 1
    return result, grown(result)


@cython.boundscheck(False)
cpdef grown(Gray mask):
    """Dilate a mask with a 3×3 window."""
    cdef Py_ssize_t height = mask.shape[0], width = mask.shape[1], y, x, row
    result = np.zeros((height, width), np.uint8)
    cdef uint8[:, ::1] wide = result
    cdef uint8[::1] line = np.empty(width, np.uint8)
    with nogil:
        for y in range(height):
            if memchr(&mask[y, 0], 1, width) == NULL:
                continue
            line[0] = mask[y, 0]
            for x in range(1, width):
                line[x] = mask[y, x] | mask[y, x - 1]
            for x in range(width - 1):
                line[x] |= mask[y, x + 1]
            for row in range(max(y - 1, 0), min(y + 2, height)):
                for x in range(width):
                    wide[row, x] |= line[x]
    return result


@cython.boundscheck(False)
def share_outside(Gray on, Gray mask):
    """Return how many pixels are on but not in a mask of that shape, / the pixels of the mask."""
    if on.shape[0] != mask.shape[0] or on.shape[1] != mask.shape[1]:
        raise ValueError("the two masks are not of the same shape")
    cdef Py_ssize_t y, x, inside = 0, outside = 0
    with nogil:
        for y in range(on.shape[0]):
            for x in range(on.shape[1]):
                inside += mask[y, x]
                outside += on[y, x] > mask[y, x]
    return outside / <double>inside if inside else float(outside)


cdef Py_ssize_t _most_runs(Gray on) noexcept:
    return on.shape[0] * ((on.shape[1] + 1) // 2)


cdef Py_ssize_t _find_runs(Gray on, int[:, ::1] runs) except -1:
    """Write the runs, row by row; return their number."""
    cdef Py_ssize_t number = 0, y, x, width = on.shape[1]
    for y in range(on.shape[0]):
        if memchr(&on[y, 0], 1, width) == NULL:
            continue
        x = 0
        while x < width:
            if not on[y, x]:
                x += 1
                continue
            runs[number, ROW] = y
            runs[number, BEGIN] = x
            while x < width and on[y, x]:
                x += 1
            runs[number, END] = x
            number += 1
    return number


cdef Py_ssize_t _join(int[:, ::1] runs, Py_ssize_t number) except -1:
    """Write the number of each run's component; return how many there are."""
    cdef Py_ssize_t run, above, first = 0, count = 0
    cdef int root, other
    for run in range(number):
        runs[run, COMPONENT] = run
        while runs[first, ROW] < runs[run, ROW] - 1:
            first += 1
        # The first run of the row above that is not left of this run.
        while runs[first, ROW] < runs[run, ROW] and runs[first, END] < runs[run, BEGIN]:
            first += 1
        root, above = run, first
        while runs[above, ROW] < runs[run, ROW] and runs[above, BEGIN] <= runs[run, END]:
            other = runs[above, COMPONENT]
            while runs[other, COMPONENT] != other:
                runs[other, COMPONENT] = runs[runs[other, COMPONENT], COMPONENT]
                other = runs[other, COMPONENT]
            runs[max(root, other), COMPONENT] = min(root, other)
            root = min(root, other)
            above += 1
    for run in range(number):  # an earlier run of its component is already numbered
        if runs[run, COMPONENT] == run:
            runs[run, COMPONENT] = count
            count += 1
        else:
            runs[run, COMPONENT] = runs[runs[run, COMPONENT], COMPONENT]
    return count


cdef int _measure(
    int[:, ::1] runs, Py_ssize_t number, int height, int width, int[:, ::1] parts
) except -1:
    cdef Py_ssize_t run
    cdef int row, begin, end, part
    for run in range(number):
        row, begin, end = runs[run, ROW], runs[run, BEGIN], runs[run, END]
        part = runs[run, COMPONENT]
        if parts[part, SIZE] == 0:
            parts[part, TOP], parts[part, LEFT] = row, begin
        parts[part, SIZE] += end - begin
        parts[part, LEFT] = min(parts[part, LEFT], begin)
        parts[part, BOTTOM] = row + 1  # runs are in the order of their rows
        parts[part, RIGHT] = max(parts[part, RIGHT], end)
        if row == 0:
            parts[part, AT_TOP] += end - begin
        if row == height - 1:
            parts[part, AT_BOTTOM] += end - begin
        parts[part, AT_LEFT] += begin == 0
        parts[part, AT_RIGHT] += end == width
    return 0


cdef bint _lies_along(int[:, ::1] parts, Py_ssize_t part, int height, int width) except? True:
    """Return whether a component lies along the border."""
    return (
        max(parts[part, AT_TOP], parts[part, AT_BOTTOM]) >= CONTACT * width
        or max(parts[part, AT_LEFT], parts[part, AT_RIGHT]) >= CONTACT * height
    )


cdef bint _is_foreign(int[:, ::1] parts, Py_ssize_t part, int height, int width) except? True:
    """Return whether a component touches the border unlike handwriting."""
    cdef int sides = (parts[part, TOP] == 0) + (parts[part, BOTTOM] == height)
    sides += (parts[part, LEFT] == 0) + (parts[part, RIGHT] == width)
    return sides >= 2 or _lies_along(parts, part, height, width)


cdef bint _may_be_digit(int[:, ::1] parts, Py_ssize_t part, int height, int width) except? True:
    cdef int tall = parts[part, BOTTOM] - parts[part, TOP]
    cdef int wide = parts[part, RIGHT] - parts[part, LEFT]
    cdef bint is_slender = max(tall, wide) >= SLENDER * min(tall, wide)
    if max(tall, wide) < SMALLEST * max(height, width) or wide >= FLAT * tall:
        return False
    if not _is_foreign(parts, part, height, width):
        return True
    # Only a closely cropped picture has a 1 along its border.
    if max(height, width) < <double>CLOSE * min(height, width):
        is_slender = is_slender and not _lies_along(parts, part, height, width)
    return parts[part, SIZE] < FULL * tall * wide or is_slender


cdef int _choose(int[:, ::1] parts, int height, int width, uint8[::1] wanted) except -1:
    """Mark the components of the handwriting."""
    cdef Py_ssize_t part, count = parts.shape[0], chosen = -1, of_any = -1
    cdef int largest = 0, longer
    cdef double margin, y, x, least
    for part in range(count):
        largest = max(largest, parts[part, SIZE])
    for part in range(count):
        if not _may_be_digit(parts, part, height, width):
            continue
        if of_any < 0 or parts[part, SIZE] > parts[of_any, SIZE]:
            of_any = part
        longer = max(
            parts[part, BOTTOM] - parts[part, TOP], parts[part, RIGHT] - parts[part, LEFT]
        )
        if (
            not _is_foreign(parts, part, height, width)
            and parts[part, SIZE] >= OWN * largest
            and longer >= OWN * max(height, width)
            and (chosen < 0 or parts[part, SIZE] > parts[chosen, SIZE])
        ):
            chosen = part
    cdef bint is_inside = chosen >= 0
    if not is_inside:
        chosen = of_any
    if chosen < 0:
        return 0
    margin = BY * max(
        parts[chosen, BOTTOM] - parts[chosen, TOP], parts[chosen, RIGHT] - parts[chosen, LEFT]
    )
    for part in range(count):
        if is_inside and _is_foreign(parts, part, height, width):
            continue
        y = (parts[part, TOP] + parts[part, BOTTOM]) / 2.0
        x = (parts[part, LEFT] + parts[part, RIGHT]) / 2.0
        least = APART
        if (
            parts[chosen, TOP] - margin < y < parts[chosen, BOTTOM] + margin
            and parts[chosen, LEFT] - margin < x < parts[chosen, RIGHT] + margin
        ):
            least = SPECK
        wanted[part] = parts[part, SIZE] >= least * parts[chosen, SIZE]
    return 0
