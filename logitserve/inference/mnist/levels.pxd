"""Types and inline functions of the compiled modules."""

ctypedef unsigned char uint8
ctypedef const unsigned char[:, ::1] Gray

cdef enum:
    WHITE = 255


cdef inline int maximum(const uint8* values, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t index
    cdef uint8 highest = 0
    for index in range(count):
        highest = values[index] if values[index] > highest else highest
    return highest


cdef inline Py_ssize_t twice_median(const Py_ssize_t* counts, Py_ssize_t total) noexcept nogil:
    """Return the sum of the two middle values, by the counts of each value from 0 on.

    `total` is the sum of the counts, at least 1.
    """
    cdef Py_ssize_t value = 0, seen = counts[0], low
    while seen <= (total - 1) >> 1:
        value += 1
        seen += counts[value]
    low = value
    while seen <= total >> 1:
        value += 1
        seen += counts[value]
    return low + value
