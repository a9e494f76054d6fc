# cython: wraparound=False, initializedcheck=False
"""Statistics of strokes, compiled.

Images are uint8 `[h, w]`, C-contiguous. Indices are checked, except in loops that are plainly within
the bounds.
"""

cimport cython
from libc.math cimport sqrt

from logitserve.inference.mnist.levels cimport Gray

import numpy as np


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
