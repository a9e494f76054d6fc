# cython: wraparound=False, initializedcheck=False
"""The extent and the center of mass of ink, compiled."""

from libc.string cimport memset

from logitserve.inference.mnist.levels cimport maximum, uint8

import numpy as np

cdef enum:
    # Maximum pixels of a row whose moment is surely an int.
    PART = 4096


def are_normalized(
    const uint8[:, :, ::1] images, Py_ssize_t longest, double tolerance, uint8 brightest
):
    """Return whether each image, uint8 `[n, h, w]`, is a centered digit: uint8 `[n]`.

    Args:
        images: light ink on black.
        longest: the longer side of a digit in pixels, or one more.
        tolerance: maximum distance of the center of mass from the pixel after the middle, in pixels,
            in each direction. Ink at the edge cannot move further.
        brightest: minimum of the brightest level.
    """
    cdef Py_ssize_t height = images.shape[1], width = images.shape[2], number
    result = np.zeros(images.shape[0], np.uint8)
    cdef uint8[::1] normalized = result
    cdef uint8[::1] columns = np.empty(width, np.uint8)
    if height and width:
        with nogil:
            for number in range(images.shape[0]):
                normalized[number] = _is_normalized(
                    &images[number, 0, 0], height, width, longest, tolerance, brightest, &columns[0]
                )
    return result


cdef bint _is_normalized(
    const uint8* image,
    Py_ssize_t height,
    Py_ssize_t width,
    Py_ssize_t longest,
    double tolerance,
    uint8 brightest,
    uint8* columns,
) noexcept nogil:
    cdef Py_ssize_t top = height, bottom = -1, left = 0, right = width - 1, x, y
    cdef long long mass = 0, down = 0, across = 0, of_row
    cdef int of_part, across_part
    memset(columns, 0, width)
    for y in range(height):
        of_row = x = 0
        while x < width:
            _add_part(
                image + y * width + x, min(PART, width - x), columns + x, &of_part, &across_part
            )
            of_row += of_part
            across += across_part + <long long>of_part * (x - width // 2)
            x += PART
        if of_row:
            bottom = y
            top = y if top == height else top
        mass += of_row
        down += of_row * (y - height // 2)
    if maximum(columns, width) == 0:
        return False
    while columns[left] == 0:
        left += 1
    while columns[right] == 0:
        right -= 1
    return (
        maximum(image, height * width) >= brightest
        and longest - 1 <= max(bottom - top, right - left) + 1 <= longest
        and _is_central(down, mass, tolerance, top == 0, bottom == height - 1)
        and _is_central(across, mass, tolerance, left == 0, right == width - 1)
    )


cdef inline void _add_part(
    const uint8* row, Py_ssize_t width, uint8* columns, int* mass, int* moment
) noexcept nogil:
    """Add up to `PART` pixels of a row to their mass and moment; mark the columns with ink."""
    cdef int x, of_part = 0, across = 0
    for x in range(<int>width):
        columns[x] |= row[x]
        of_part += row[x]
        across += row[x] * x
    mass[0], moment[0] = of_part, across


cdef inline bint _is_central(
    double moment, double mass, double tolerance, bint starts, bint ends
) noexcept nogil:
    cdef double center = moment / mass
    return -tolerance <= center <= tolerance or (starts if moment > 0 else ends)
