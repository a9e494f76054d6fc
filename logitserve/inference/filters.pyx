# cython: wraparound=False, initializedcheck=False
"""The filters of PNG, compiled (PNG specification, third edition, section 9)."""

from libc.string cimport memcpy, memset

import numpy as np

ctypedef unsigned char uint8

cdef enum:
    # Filter types (9.2).
    NONE, SUB, UP, AVERAGE, PAETH


def unfilter(const uint8[::1] data, uint8[:, ::1] rows, Py_ssize_t first, Py_ssize_t step):
    """Reconstruct the next rows of an image.

    Args:
        data: whole rows, each after the byte of its filter type.
        rows: uint8, `[h, bytes]`; those before `first` are complete, the next ones are written.
        first: row of the image that is the first in `data`.
        step: bytes per pixel, at least 1.

    Raises:
        ValueError: a filter type is unknown, or `data` does not fit.
    """
    cdef Py_ssize_t size = rows.shape[1], count = data.shape[0] // (rows.shape[1] + 1), row
    if not (0 <= first <= rows.shape[0] - count and 1 <= step) or size == 0:
        raise ValueError(f"{count} rows do not fit")
    for row in range(count):
        if data[row * (size + 1)] > PAETH:
            raise ValueError(f"the filter type of row {first + row} is {data[row * (size + 1)]}")
    cdef uint8 few[1024]
    cdef uint8[::1] many
    cdef const uint8 *source
    cdef const uint8 *above = few
    if first > 0:
        above = &rows[first - 1, 0]
    elif size <= 1024:
        memset(few, 0, size)
    else:
        many = np.zeros(size, np.uint8)
        above = &many[0]
    step = min(step, size)
    with nogil:
        for row in range(count):
            source = &data[row * (size + 1)]
            _reconstruct(source[0], source + 1, above, &rows[first + row, 0], size, step)
            above = &rows[first + row, 0]


cdef void _reconstruct(
    uint8 kind,
    const uint8* source,
    const uint8* above,
    uint8* row,
    Py_ssize_t size,
    Py_ssize_t step,
) noexcept nogil:
    cdef Py_ssize_t at
    if kind == NONE:
        memcpy(row, source, size)
        return
    if kind == UP:
        for at in range(size):
            row[at] = source[at] + above[at]
        return
    # There is no pixel to the left of the first one.
    for at in range(step):
        row[at] = source[at]
        if kind == AVERAGE:
            row[at] += above[at] >> 1
        elif kind == PAETH:
            row[at] += above[at]
    # Compilers make faster loops for a constant number of bytes.
    if step == 1:
        _reconstruct_rest(kind, source, above, row, size, 1)
    elif step == 3:
        _reconstruct_rest(kind, source, above, row, size, 3)
    elif step == 4:
        _reconstruct_rest(kind, source, above, row, size, 4)
    else:
        _reconstruct_rest(kind, source, above, row, size, step)


cdef inline void _reconstruct_rest(
    uint8 kind,
    const uint8* source,
    const uint8* above,
    uint8* row,
    Py_ssize_t size,
    Py_ssize_t step,
) noexcept nogil:
    cdef Py_ssize_t at
    if kind == SUB:
        for at in range(step, size):
            row[at] = source[at] + row[at - step]
    elif kind == AVERAGE:
        for at in range(step, size):
            row[at] = source[at] + ((row[at - step] + above[at]) >> 1)
    else:
        for at in range(step, size):
            row[at] = source[at] + _paeth(row[at - step], above[at], above[at - step])


cdef inline int _paeth(int left, int above, int corner) noexcept nogil:
    """Return the neighbor that is nearest to left + above - corner (9.4)."""
    cdef int by_left = above - corner, by_above = left - corner, by_corner = by_left + by_above
    by_left = by_left if by_left >= 0 else -by_left
    by_above = by_above if by_above >= 0 else -by_above
    by_corner = by_corner if by_corner >= 0 else -by_corner
    if by_left <= by_above and by_left <= by_corner:
        return left
    return above if by_above <= by_corner else corner
