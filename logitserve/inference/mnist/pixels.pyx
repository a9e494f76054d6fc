# cython: boundscheck=True, wraparound=False, initializedcheck=False, cdivision=True
"""Loops over the pixels of a picture, compiled: gray levels in, ink out.

Each function gets uint8 `[h, w]`, and costs one pass over the pixels.
"""

cimport cython
from libc.math cimport rint, sqrt
from libc.string cimport memcpy, memset

import numpy as np

ctypedef unsigned char uint8
ctypedef const unsigned char[:, ::1] Gray

cdef enum:
    WHITE = 255
    LEVELS = 511  # of the contrast of two gray levels, from -255 to 255

cdef double LEAST_CONTRAST = 10
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


def gray_of(const unsigned char[:, :, ::1] colors):
    """Return RGB or RGBA whose colors are all gray as uint8 `[h, w]`; None if one is not."""
    cdef Py_ssize_t count = colors.shape[0] * colors.shape[1], channels = colors.shape[2], index
    cdef const uint8 *samples = &colors[0, 0, 0]
    cdef uint8 different = 0
    result = np.empty((colors.shape[0], colors.shape[1]), np.uint8)
    cdef uint8[:, ::1] gray = result
    cdef uint8 *levels = &gray[0, 0]
    if channels not in (3, 4):
        raise ValueError(f"not RGB or RGBA: {channels} channels")
    with nogil:
        if channels == 4:
            different = _copy_gray(samples, 4, levels, count)
        else:
            different = _copy_gray(samples, 3, levels, count)
    return None if different else result


cdef inline uint8 _copy_gray(
    const uint8* samples, Py_ssize_t channels, uint8* levels, Py_ssize_t count
) noexcept nogil:
    """Copy the first channel; return 0 if the next two are the same."""
    cdef Py_ssize_t index
    cdef uint8 different = 0, red
    for index in range(count):
        red = samples[index * channels]
        different |= (red ^ samples[index * channels + 1]) | (red ^ samples[index * channels + 2])
        levels[index] = red
    return different


cpdef reduced(Gray image, Py_ssize_t factor):
    """Return the means of blocks, as Pillow's `Image.reduce` does: `[⌈h / factor⌉, ⌈w / factor⌉]`.

    Blocks at the end of rows and columns may be smaller.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1]
    cdef Py_ssize_t rows = (height + factor - 1) // factor, columns = (width + factor - 1) // factor
    cdef Py_ssize_t row, y, bottom
    result = np.empty((rows, columns), np.uint8)
    cdef uint8[:, ::1] means = result
    cdef unsigned int[::1] of_columns = np.empty(width, np.uint32)
    cdef unsigned int[::1] of_blocks = np.empty(columns, np.uint32)
    with nogil:
        for row in range(rows):
            bottom = min((row + 1) * factor, height)
            of_columns[:] = 0
            for y in range(row * factor, bottom):
                _add(&image[y, 0], &of_columns[0], width)
            _add_blocks(&of_columns[0], width, factor, &of_blocks[0])
            _divide(&of_blocks[0], columns, bottom - row * factor, factor, width, &means[row, 0])
    return result


cdef inline void _add(const uint8* row, unsigned int* sums, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t x
    for x in range(width):
        sums[x] += row[x]


cdef inline void _add_blocks(
    const unsigned int* values, Py_ssize_t width, Py_ssize_t factor, unsigned int* sums
) noexcept nogil:
    cdef Py_ssize_t block, x, whole = width // factor
    for block in range(whole):
        sums[block] = values[block * factor]
    for x in range(1, factor):
        for block in range(whole):
            sums[block] += values[block * factor + x]
    if whole * factor < width:
        sums[whole] = 0
        for x in range(whole * factor, width):
            sums[whole] += values[x]


cdef inline void _divide(
    const unsigned int* sums,
    Py_ssize_t columns,
    Py_ssize_t rows,
    Py_ssize_t factor,
    Py_ssize_t width,
    uint8* means,
) noexcept nogil:
    """Pillow divides by a multiplication in 24 bits, which rounds a few means down."""
    cdef Py_ssize_t block, last = columns - 1
    cdef unsigned int pixels = rows * factor, multiplier = (1 << 24) // pixels, half = pixels // 2
    for block in range(last):
        means[block] = ((sums[block] + half) * multiplier) >> 24
    pixels = rows * (width - last * factor)
    means[last] = ((sums[last] + pixels // 2) * ((1 << 24) // pixels)) >> 24


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


def extended(Gray image, Py_ssize_t reach):
    """Extrapolate by 2 × `reach` pixels on each side: linearly, then constant.

    Equals `np.pad` by `reach` with `reflect_type="odd"` and again with `mode="edge"`.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], beyond = 2 * reach, y, x, step
    cdef int[:, ::1] field = np.zeros((height + 2 * beyond, width + 2 * beyond), np.intc)
    for y in range(height):
        for x in range(width):
            field[beyond + y, beyond + x] = image[y, x]
        for x in range(beyond):
            step = min(x + 1, min(reach, width - 1))
            field[beyond + y, beyond - 1 - x] = 2 * image[y, 0] - image[y, step]
            field[beyond + y, beyond + width + x] = (
                2 * image[y, width - 1] - image[y, width - 1 - step]
            )
    result = np.empty((field.shape[0], field.shape[1]), np.uint8)
    cdef uint8[:, ::1] clipped = result
    cdef Py_ssize_t first = beyond, last = beyond + height - 1
    for y in range(beyond):
        step = min(y + 1, min(reach, height - 1))
        for x in range(field.shape[1]):
            field[first - 1 - y, x] = 2 * field[first, x] - field[first + step, x]
            field[last + 1 + y, x] = 2 * field[last, x] - field[last - step, x]
    for y in range(field.shape[0]):
        for x in range(field.shape[1]):
            clipped[y, x] = min(max(field[y, x], 0), WHITE)
    return result


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
    least = max(LEAST_CONTRAST, FAINTEST * noise)
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
    twice = _twice_median(counts, count)
    for index in range(2 * LEVELS):
        deviations[index] = 0
    for index in range(LEVELS):
        deviations[abs(2 * index - twice)] += counts[index]
    return 1.4826 * _twice_median(deviations, count) / 4


cdef inline int _contrast(
    Gray image, int inverted, Gray sheet, int level, Py_ssize_t y, Py_ssize_t x
) except? -1000:
    if sheet is not None:
        level = sheet[y, x]
    return level - (image[y, x] ^ inverted)


cdef Py_ssize_t _twice_median(Py_ssize_t* counts, Py_ssize_t total) noexcept:
    """Return the sum of the two middle values of so many."""
    cdef Py_ssize_t value = 0, seen = counts[0], low
    while seen <= (total - 1) // 2:
        value += 1
        seen += counts[value]
    low = value
    while seen <= total // 2:
        value += 1
        seen += counts[value]
    return low + value


def closed(Gray image, Py_ssize_t window):
    """Apply gray closing: dark areas narrower than a square window are filled.

    The window is an odd number of pixels. Returns the inner part, where it is complete:
    `[h - 2 * window + 2, w - 2 * window + 2]`.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], reach = window - 1
    if window < 1 or height <= 2 * reach or width <= 2 * reach:
        raise ValueError(f"a window of {window} is too large for {height}×{width} pixels")
    copy = np.array(image, np.uint8, order="C")
    cdef uint8[:, ::1] field = copy
    with nogil:
        _extreme_of_rows(field, height, width, window, 1)
        _extreme_of_columns(field, height - reach, width, window, 1)
        _extreme_of_rows(field, height - reach, width - reach, window, 0)
        _extreme_of_columns(field, height - 2 * reach, width - reach, window, 0)
    return np.ascontiguousarray(copy[: height - 2 * reach, : width - 2 * reach])


@cython.boundscheck(False)
cdef void _extreme_of_rows(
    uint8[:, ::1] field, Py_ssize_t height, Py_ssize_t width, Py_ssize_t window, bint is_maximum
) noexcept nogil:
    """Replace each pixel by the extreme of `window` rows from it on, by doubling."""
    cdef Py_ssize_t seen = 1, step, y, x
    cdef uint8 *here
    cdef uint8 *below
    while seen < window:
        step = min(seen, window - seen)
        seen += step
        for y in range(height - seen + 1):
            here, below = &field[y, 0], &field[y + step, 0]
            if is_maximum:
                for x in range(width):
                    here[x] = here[x] if here[x] > below[x] else below[x]
            else:
                for x in range(width):
                    here[x] = here[x] if here[x] < below[x] else below[x]


@cython.boundscheck(False)
cdef void _extreme_of_columns(
    uint8[:, ::1] field, Py_ssize_t height, Py_ssize_t width, Py_ssize_t window, bint is_maximum
) noexcept nogil:
    cdef Py_ssize_t seen, step, y, x
    cdef uint8 *row
    for y in range(height):
        row = &field[y, 0]
        seen = 1
        while seen < window:
            step = min(seen, window - seen)
            seen += step
            if is_maximum:
                for x in range(width - seen + 1):
                    row[x] = row[x] if row[x] > row[x + step] else row[x + step]
            else:
                for x in range(width - seen + 1):
                    row[x] = row[x] if row[x] < row[x + step] else row[x + step]


@cython.boundscheck(False)
def slopes(Gray ink):
    """Return the sums of the ink, of its gradient magnitude, and of the squares of that.

    The second is 255 times the length of the outline. Ink is surrounded by paper.
    """
    cdef Py_ssize_t height = ink.shape[0], width = ink.shape[1], y, x
    cdef long long mass = 0, squares = 0
    cdef double outline = 0
    cdef int here, down, across, squared
    with nogil:
        for y in range(-1, height):
            for x in range(-1, width):
                here = ink[y, x] if y >= 0 and x >= 0 else 0
                down = (ink[y + 1, x] if x >= 0 and y + 1 < height else 0) - here
                across = (ink[y, x + 1] if y >= 0 and x + 1 < width else 0) - here
                mass += here
                squared = down * down + across * across
                if squared:
                    squares += squared
                    outline += sqrt(<double>squared)
    return mass, outline, squares


@cython.boundscheck(False)
def bounding_box(Gray ink, int share):
    """Return left, top, right and bottom of the pixels above 1/`share` of the darkest ink.

    Right and bottom are exclusive. All are 0 without ink.
    """
    cdef Py_ssize_t y, width = ink.shape[1], left = width, top = -1, right = 0, bottom = 0
    cdef int faintest = _maximum(&ink[0, 0], ink.shape[0] * width) // share
    cdef const uint8 *row
    with nogil:
        for y in range(ink.shape[0]):
            row = &ink[y, 0]
            if _maximum(row, width) <= faintest:
                continue
            if top < 0:
                top = y
            bottom = y + 1
            while left > 0 and _maximum(row, left) > faintest:
                left -= 1
            while right < width and _maximum(row + right, width - right) > faintest:
                right += 1
    if top < 0:
        left = top = 0
    return left, top, right, bottom


cdef int _maximum(const uint8* values, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t index
    cdef uint8 highest = 0
    for index in range(count):
        highest = values[index] if values[index] > highest else highest
    return highest


def stretched(Gray ink):
    """Scale the levels so that the median of the full ink becomes 255; brighter ink is 255 too."""
    cdef Py_ssize_t counts[256]
    cdef Py_ssize_t y, x, total = 0
    cdef int half = (_maximum(&ink[0, 0], ink.shape[0] * ink.shape[1]) + 1) // 2
    cdef double full
    cdef uint8 table[256]
    result = np.empty((ink.shape[0], ink.shape[1]), np.uint8)
    cdef uint8[:, ::1] scaled = result
    for x in range(256):
        counts[x] = 0
    for y in range(ink.shape[0]):
        for x in range(ink.shape[1]):
            if ink[y, x] >= half:
                counts[ink[y, x]] += 1
                total += 1
    full = 255 / (_twice_median(counts, total) / 2.0)
    for x in range(256):
        table[x] = <uint8>min(rint(x * full), 255.0)
    for y in range(ink.shape[0]):
        for x in range(ink.shape[1]):
            scaled[y, x] = table[ink[y, x]]
    return result


def centered(Gray digit, Py_ssize_t height, Py_ssize_t width):
    """Place the digit with its center of mass at the center, as far as it fits."""
    cdef Py_ssize_t rows = digit.shape[0], columns = digit.shape[1], y, x
    cdef long long mass = 0, down = 0, across = 0
    for y in range(rows):
        for x in range(columns):
            mass += digit[y, x]
            down += (y - height // 2) * digit[y, x]  # 14 of 0-27 in MNIST
            across += (x - width // 2) * digit[y, x]
    result = np.zeros((height, width), np.uint8)
    cdef Py_ssize_t top = <Py_ssize_t>rint(min(max(-down / <double>mass, 0.0), height - rows))
    cdef Py_ssize_t left = <Py_ssize_t>rint(min(max(-across / <double>mass, 0.0), width - columns))
    result[top : top + rows, left : left + columns] = digit
    return result


@cython.boundscheck(False)
def rarer_tone(Gray image):
    """Return the mask, uint8 0 or 1, of the pixels on the rarer side of the middle gray level."""
    cdef Py_ssize_t y, x, light = 0
    cdef uint8 lowest = WHITE, highest = 0, middle, is_dark
    result = np.empty((image.shape[0], image.shape[1]), np.uint8)
    cdef uint8[:, ::1] mask = result
    with nogil:
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                lowest = image[y, x] if image[y, x] < lowest else lowest
                highest = image[y, x] if image[y, x] > highest else highest
        middle = (lowest + highest) // 2
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                mask[y, x] = image[y, x] > middle
                light += mask[y, x]
        is_dark = 2 * light >= image.shape[0] * image.shape[1]
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                mask[y, x] ^= is_dark
    return result


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
    cdef int inverted = 0 if dark_ink else WHITE, level = 0, half = _maximum(&ink[0, 0], height * width) // 2
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


def strokes(const unsigned char[:, :, ::1] images):
    """Return statistics of the strokes of each image, float64 `[n, 4]`.

    The sum of the ink, where 1 is full; the mean width of the strokes in pixels, twice the area /
    the length of the outline; the share of the full ink whose four neighbors are full; and the
    Euler number of the full ink, components less holes, 8-connected (Gray 1971, "Local properties
    of binary images in two dimensions").

    Args:
        images: uint8, `[n, h, w]`, 0 on paper to 255; ink is full from 128 on.
    """
    cdef Py_ssize_t index
    result = np.empty((images.shape[0], 4))
    cdef double[:, ::1] statistics = result
    with nogil:
        for index in range(images.shape[0]):
            _strokes(images[index], &statistics[index, 0])
    return result


@cython.boundscheck(False)
cdef void _strokes(Gray image, double* statistics) noexcept nogil:
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], y, x
    cdef long long mass = 0, full = 0, inside = 0, curls = 0
    cdef double outline = 0
    cdef int here, right, below, beyond, down, across, corners
    for y in range(-1, height):
        for x in range(-1, width):
            # A pixel and its neighbors to the right, below, and between them.
            here = image[y, x] if y >= 0 and x >= 0 else 0
            right = image[y, x + 1] if y >= 0 and x + 1 < width else 0
            below = image[y + 1, x] if x >= 0 and y + 1 < height else 0
            beyond = image[y + 1, x + 1] if y + 1 < height and x + 1 < width else 0
            if not (here | right | below | beyond):
                continue
            mass += here
            down, across = below - here, right - here
            outline += sqrt(<double>(down * down + across * across))
            corners = (here >> 7) + (right >> 7) + (below >> 7) + (beyond >> 7)
            if corners == 1:
                curls += 1
            elif corners == 3:
                curls -= 1
            elif corners == 2 and here >> 7 == beyond >> 7:
                curls -= 2
            if here >> 7:
                full += 1
                if right >> 7 and below >> 7 and y > 0 and x > 0:
                    inside += (image[y - 1, x] & image[y, x - 1]) >> 7
    statistics[0] = mass / 255.0
    statistics[1] = 2 * mass / max(outline, 1.0)
    statistics[2] = inside / <double>max(full, 1)
    statistics[3] = curls / 4.0
