# cython: wraparound=False, initializedcheck=False
"""The contrast of ink and paper, compiled.

Images are uint8 `[h, w]`, C-contiguous. Indices are checked, except in loops that are plainly within
the bounds.
"""

cimport cython
from libc.string cimport memcpy, memset

from logitserve.inference.mnist.levels cimport WHITE, Gray, maximum, twice_median, uint8

import numpy as np

from logitserve.inference.mnist.pixels import closed

cdef enum:
    LEVELS = 511  # of the contrast of two gray levels, from -255 to 255

LEAST_CONTRAST = 10
"""Contrast of gray levels below which an image is blank (JPEG changes paper by 1-4)."""
cdef double FAINTEST = 7
"""Noise standard deviations by which ink must differ from paper: among 16,384 pixels the maximum
of pure noise is about 4, paper may be up to 1.3 above its mean, and the estimate from a small
border is up to a sixth too low."""
cdef double ONE_SIDED = 1.25
"""Minimum ratio of the contrasts on both sides of the paper; ink is on the larger side. Noise and
the edges of shadows are symmetric."""
cdef double ODD_SHARE = 0.002
"""Share of a photograph's pixels that is ignored on the side opposite to ink."""
cdef double BRIGHTEST = 0.0005
"""Share of a photograph's pixels that is ignored as darker than ink: single specks."""


def ascending_border(Gray image):
    """Return the outermost pixels in ascending order, uint8 `[2h + 2w]`; corners count twice."""
    cdef Py_ssize_t counts[256]
    cdef Py_ssize_t level, count, position = 0
    result = np.empty(2 * (image.shape[0] + image.shape[1]), np.uint8)
    cdef uint8[::1] border = result
    _count_border(image, counts)
    for level in range(256):
        for count in range(counts[level]):
            border[position] = level
            position += 1
    return result


cdef void _count_border(Gray image, Py_ssize_t* counts) except *:
    cdef Py_ssize_t y, x, last_row = image.shape[0] - 1, last_column = image.shape[1] - 1
    for y in range(256):
        counts[y] = 0
    for x in range(image.shape[1]):
        counts[image[0, x]] += 1
        counts[image[last_row, x]] += 1
    for y in range(image.shape[0]):
        counts[image[y, 0]] += 1
        counts[image[y, last_column]] += 1


@cython.boundscheck(False)
def skewness(Gray image, double level):
    """Return the sum of the cubes of the differences from a level, a multiple of one half."""
    cdef long long twice = <long long>(2 * level), difference, total = 0
    cdef Py_ssize_t y, x
    with nogil:
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                difference = 2 * image[y, x] - twice
                total += difference * difference * difference
    return total / 8.0


@cython.boundscheck(False)
def local_skewness(Gray image, around):
    """Return the sum of the cubes of the differences from another image of the same shape."""
    cdef Gray other = _sheet(around, image)
    cdef long long total = 0
    cdef int difference
    cdef Py_ssize_t y, x
    with nogil:
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                difference = image[y, x] - other[y, x]
                total += difference * difference * difference
    return total


def separate(Gray image, bint dark_ink, paper, bint photograph):
    """Separate ink from paper: uint8, same shape, 0 on paper to 255 on full ink.

    Args:
        image: uint8, `[h, w]`.
        dark_ink: whether ink is darker than paper.
        paper: the gray levels without ink, of the image's shape, or one for all pixels; inverted
            if the ink is light.
        photograph: whether to expect specks.
    """
    cdef Py_ssize_t counts[LEVELS]
    cdef Py_ssize_t size = image.shape[0] * image.shape[1], specks = 1
    cdef int inverted = 0 if dark_ink else WHITE, level, odd, peak, full
    cdef Gray sheet = None
    cdef double noise, least, floor, scale
    cdef uint8 table[256]
    if paper.ndim:
        sheet = _sheet(paper, image)
        level = 0
    else:
        level = int(paper)
    result = np.empty((image.shape[0], image.shape[1]), np.uint8)
    cdef uint8[:, ::1] ink = result
    _accumulate(image, inverted, sheet, level, counts)
    noise = _noise(image, inverted, sheet, level)
    least = max(<double>LEAST_CONTRAST, FAINTEST * noise)
    if photograph:
        specks += <Py_ssize_t>(BRIGHTEST * size)
        odd = _contrast_at(counts, <Py_ssize_t>(ODD_SHARE * size))
        least = max(least, -ONE_SIDED * odd)
    peak = _contrast_at(counts, size - specks)
    if peak < least:
        ink[:, :] = 0
        return result
    floor = max(4 * noise, 0.05 * peak)
    full = _contrast_at(counts, (counts[(peak + 1) // 2 + WHITE - 1] + size - 1) // 2)
    scale = 255 / max(full - floor, 1.0)
    for odd in range(256):
        table[odd] = <uint8>min(max((odd - floor) * scale, 0.0), 255.0)
    if sheet is None:
        _look_up(image, inverted, level, table, ink)
    else:
        _look_up_on(image, inverted, sheet, table, ink)
    return result


cdef Gray _sheet(other, Gray image):
    """Check that another image has the same shape."""
    cdef Gray sheet = other
    if sheet.shape[0] != image.shape[0] or sheet.shape[1] != image.shape[1]:
        raise ValueError("the two images are not of the same shape")
    return sheet


cdef inline int _contrast_at(Py_ssize_t* ascending, Py_ssize_t rank) noexcept:
    """Return the contrast of that rank, by the cumulative counts."""
    cdef int index = 0
    while index < LEVELS - 1 and ascending[index] <= rank:
        index += 1
    return index - WHITE if ascending[index] > rank else LEVELS - WHITE


@cython.boundscheck(False)
cdef void _accumulate(
    Gray image, int inverted, Gray sheet, int level, Py_ssize_t* counts
) noexcept nogil:
    """Count the contrasts of paper and pixel, cumulatively; -255 is first."""
    cdef Py_ssize_t y, x, total = 0
    # Several counters, as neighbors are often equal, and a counter waits for its last change.
    cdef int lanes[4][LEVELS]
    memset(lanes, 0, sizeof(lanes))
    if sheet is None:
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                lanes[x & 3][image[y, x]] += 1
        for x in range(4):
            _turn(lanes[x], inverted, level)
    else:
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                lanes[x & 3][sheet[y, x] - (image[y, x] ^ inverted) + WHITE] += 1
    for x in range(LEVELS):
        total += lanes[0][x] + lanes[1][x] + lanes[2][x] + lanes[3][x]
        counts[x] = total


cdef inline void _turn(int* counts, int inverted, int level) noexcept nogil:
    """Turn the counts of gray levels into those of contrasts with the paper, in place."""
    cdef int of_levels[256]
    cdef int gray
    memcpy(of_levels, counts, sizeof(of_levels))
    memset(counts, 0, LEVELS * sizeof(int))
    for gray in range(256):
        counts[level - (gray ^ inverted) + WHITE] = of_levels[gray]


cdef void _look_up(
    Gray image, int inverted, int level, uint8* table, uint8[:, ::1] ink
) noexcept nogil:
    """Write the ink by the table of contrasts; pixels lighter than the paper have none."""
    cdef uint8 of_levels[256]
    cdef const uint8 *here = &image[0, 0]
    cdef uint8 *there = &ink[0, 0]
    cdef Py_ssize_t index
    cdef int gray
    for gray in range(256):
        of_levels[gray] = table[max(level - (gray ^ inverted), 0)]
    for index in range(image.shape[0] * image.shape[1]):
        there[index] = of_levels[here[index]]


@cython.boundscheck(False)
cdef void _look_up_on(
    Gray image, int inverted, Gray sheet, uint8* table, uint8[:, ::1] ink
) noexcept nogil:
    cdef Py_ssize_t y, x
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            ink[y, x] = table[max(sheet[y, x] - (image[y, x] ^ inverted), 0)]


cdef double _noise(Gray image, int inverted, Gray sheet, int level):
    """Return the standard deviation of the paper along the border, in gray levels.

    Estimated from the median absolute deviation, which is robust to ink while most of the border is
    paper.
    """
    cdef Py_ssize_t counts[LEVELS]
    cdef Py_ssize_t deviations[2 * LEVELS]
    cdef Py_ssize_t index, last_row = image.shape[0] - 1, last_column = image.shape[1] - 1
    cdef Py_ssize_t count = 2 * (image.shape[0] + image.shape[1]), twice
    for index in range(LEVELS):
        counts[index] = 0
    for index in range(image.shape[1]):
        counts[_contrast(image, inverted, sheet, level, 0, index) + WHITE] += 1
        counts[_contrast(image, inverted, sheet, level, last_row, index) + WHITE] += 1
    for index in range(image.shape[0]):
        counts[_contrast(image, inverted, sheet, level, index, 0) + WHITE] += 1
        counts[_contrast(image, inverted, sheet, level, index, last_column) + WHITE] += 1
    twice = twice_median(counts, count)
    for index in range(2 * LEVELS):
        deviations[index] = 0
    for index in range(LEVELS):
        deviations[abs(2 * index - twice)] += counts[index]
    return 1.4826 * twice_median(deviations, count) / 4


cdef inline int _contrast(
    Gray image, int inverted, Gray sheet, int level, Py_ssize_t y, Py_ssize_t x
) except? -1000:
    if sheet is not None:
        level = sheet[y, x]
    return level - (image[y, x] ^ inverted)


@cython.boundscheck(False)
def contrasts(
    Gray image, Gray ink, Py_ssize_t top, Py_ssize_t left, bint dark_ink, paper, Py_ssize_t window
):
    """Return the contrast of the full ink with the paper, and with the closing of the image, summed.

    Args:
        image: uint8, `[h, w]`.
        ink: ink of a part of it, 0 on paper to 255, not all 0.
        top: first row of that part.
        left: first column of that part.
        dark_ink: whether ink is darker than paper.
        paper: as in `separate`.
        window: of the closing, an odd number of pixels.
    """
    cdef Py_ssize_t margin = window - 1, y, x, row, column
    cdef Py_ssize_t height = ink.shape[0], width = ink.shape[1]
    cdef int inverted = 0 if dark_ink else WHITE, level = 0
    cdef int half = maximum(&ink[0, 0], height * width) // 2
    cdef long long with_paper = 0, with_both_sides = 0
    cdef Gray sheet = None
    if not (0 <= top <= image.shape[0] - height and 0 <= left <= image.shape[1] - width):
        raise ValueError("the part is not inside the image")
    if paper.ndim:
        sheet = _sheet(paper, image)
    else:
        level = int(paper)
    around = np.empty((height + 2 * margin, width + 2 * margin), np.uint8)
    cdef uint8[:, ::1] dark = around
    for y in range(dark.shape[0]):
        row = min(max(top - margin + y, 0), image.shape[0] - 1)
        for x in range(dark.shape[1]):
            column = min(max(left - margin + x, 0), image.shape[1] - 1)
            dark[y, x] = image[row, column] ^ inverted
    cdef Gray closing = closed(around, window)
    for y in range(height):
        for x in range(width):
            if ink[y, x] > half:
                if sheet is not None:
                    level = sheet[top + y, left + x]
                with_paper += level - dark[margin + y, margin + x]
                with_both_sides += closing[y, x] - dark[margin + y, margin + x]
    return with_paper, with_both_sides
