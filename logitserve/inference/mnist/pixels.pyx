"""Loops over the pixels of an image."""


def total(const unsigned char[:, :] image) -> int:
    """Sum of all pixels.

    Args:
        image: uint8, (rows, columns).
    """
    cdef Py_ssize_t row, column
    cdef long long result = 0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            result += image[row, column]
    return result
