# cython: wraparound=False, initializedcheck=False
"""Loops over the pixels of images, compiled.

Images are uint8 `[h, w]`, C-contiguous. Indices are checked, except in loops that are plainly within
the bounds.
"""

cimport cython
from libc.math cimport rint
from libc.string cimport memset

from logitserve.inference.mnist.levels cimport WHITE, Gray, maximum, twice_median, uint8

import numpy as np


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


def reduced(Gray image, Py_ssize_t factor):
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
def bounding_box(Gray ink, int share):
    """Return left, top, right and bottom of the pixels above 1/`share` of the darkest ink.

    Right and bottom are exclusive. All are 0 without ink.
    """
    cdef Py_ssize_t y, width = ink.shape[1], left = width, top = -1, right = 0, bottom = 0
    cdef int faintest = maximum(&ink[0, 0], ink.shape[0] * width) // share
    cdef const uint8 *row
    with nogil:
        for y in range(ink.shape[0]):
            row = &ink[y, 0]
            if maximum(row, width) <= faintest:
                continue
            if top < 0:
                top = y
            bottom = y + 1
            while left > 0 and maximum(row, left) > faintest:
                left -= 1
            while right < width and maximum(row + right, width - right) > faintest:
                right += 1
    if top < 0:
        left = top = 0
    return left, top, right, bottom


def stretched(Gray ink):
    """Scale the levels so that the median of the full ink becomes 255; brighter ink is 255 too."""
    cdef Py_ssize_t counts[256]
    cdef Py_ssize_t y, x, total = 0
    cdef int highest = maximum(&ink[0, 0], ink.shape[0] * ink.shape[1])
    cdef double scale
    cdef uint8 table[256]
    result = np.empty((ink.shape[0], ink.shape[1]), np.uint8)
    cdef uint8[:, ::1] scaled = result
    if highest == 0:
        raise ValueError("there is no ink")
    memset(counts, 0, sizeof(counts))
    for y in range(ink.shape[0]):
        for x in range(ink.shape[1]):
            if ink[y, x] >= (highest + 1) // 2:
                counts[ink[y, x]] += 1
                total += 1
    scale = WHITE / (twice_median(counts, total) / 2.0)
    for x in range(256):
        table[x] = <uint8>min(rint(x * scale), 255.0)
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
    if mass == 0:
        raise ValueError("there is no ink")
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
