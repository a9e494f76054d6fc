"""Recognize images in MNIST's format: light ink on black, with its size and centering.

Measured values are over the 60,000 training and 10,000 test images.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BOX_SHARE: Final = 20 / 28
"""Longer side of the digit / side of the image."""
CENTER_TOLERANCE: Final = 0.52
"""Pixels. Centering is by whole pixels, so at most one half; MNIST keeps it except for rounding
(measured: 0.5001; 0.520 in a copy without gray level 1)."""

EVEN: Final = 8
"""Gray levels by which even paper may vary (JPEG changes them by 1-4)."""

SMALL: Final = 0.5
"""Longer side of the ink / side of the image, below which ink is small: in MNIST about 0.7."""
FAR: Final = 0.2
"""Distance of the ink's middle from the image's / its side, above which ink is off-center: in MNIST
below 0.2 (measured)."""

Weights = npt.NDArray[np.floating[Any]]


def are_normalized(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return whether each image, uint8 `[n, h, w]`, is in MNIST's format: bool `[n]`.

    True for every MNIST image. It runs before every inference: sums are matrix products with ones,
    which are fast in numpy, and the rest operates on bytes, which is fast for one image and for
    many (`benchmarks/costs.py`).
    """
    count, height, width = images.shape
    across, down, ones = _weights(height, width)
    ink = images.astype(ones.dtype)
    by_row = ink.reshape(-1, width).dot(across).reshape(count, 2 * height)
    rows, columns = (by_row[:, ::2] != 0).tobytes(), (ones @ ink != 0).tobytes()
    pixels, size = images.tobytes(), height * width
    longest = box_side(height, width)
    normalized = []
    pixel = row = column = 0
    for mass, y, x in by_row.dot(down).tolist():
        inked_rows = rows[row : (row := row + height)]
        inked_columns = columns[column : (column := column + width)]
        begin, pixel = pixel, pixel + size
        side = max(len(inked_rows.strip(b"\0")), len(inked_columns.strip(b"\0")))
        normalized.append(
            # The brightest pixel of an MNIST image is 255 or 254 (measured).
            (pixels.find(b"\xff", begin, pixel) >= 0 or pixels.find(b"\xfe", begin, pixel) >= 0)
            # In 16 of the 70,000 the box is a pixel short: a faint edge was rounded to 0.
            and longest - 1 <= side <= longest
            # Ink at the edge cannot move further, so it is centered as well as possible.
            and (abs(y / mass) <= CENTER_TOLERANCE or inked_rows[0 if y > 0 else -1] != 0)
            and (abs(x / mass) <= CENTER_TOLERANCE or inked_columns[0 if x > 0 else -1] != 0)
        )
    return np.array(normalized, np.bool_)


def are_plain(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which images, uint8 `[n, h, w]`, are better cropped by their even border: bool `[n]`.

    True if its ink is darker than the border, small or off-center, or the image is blank. Other
    images with an even border may have dirt beside the digit, which would be cropped with it.
    """
    top, bottom, left, right = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
    border = np.concatenate([top, bottom, left, right], axis=1)
    lightest, darkest = border.max(axis=1).astype(np.int16), border.min(axis=1)
    is_even = lightest - darkest <= EVEN
    if not is_even.any():
        return np.zeros(len(images), np.bool_)
    is_light = images > (lightest + EVEN)[:, np.newaxis, np.newaxis]
    plain = ~is_light.any(axis=(1, 2))
    extents, shifts = [], []
    for axis in (2, 1):
        present = is_light.any(axis=axis)
        first, beyond = present.argmax(axis=1), present[:, ::-1].argmax(axis=1)
        side = present.shape[1]
        extents.append((side - first - beyond) / side)
        shifts.append(abs(first - beyond) / (2 * side))
    plain |= (np.maximum(*extents) < SMALL) | (np.maximum(*shifts) > FAR)
    return np.asarray(is_even & plain)


@lru_cache(maxsize=8)
def _weights(height: int, width: int) -> tuple[Weights, Weights, Weights]:
    """Return factors for moments of images; the origin is the center, index 14 of 0-27 in MNIST.

    Returns:
        `[width, 2]`: a row times this is its mass and its x moment. `[height * 2, 3]`: these of all
            rows times this are the image's mass and its y and x moments. `[height]`: ones. Sums of
            integers are exact in this dtype.
    """
    largest = 255 * height * width * (max(height, width) // 2 + 1)
    dtype = np.float32 if largest < 2**24 else np.float64
    across = np.stack([np.ones(width), np.arange(width) - width // 2], axis=1)
    down = np.zeros((height, 2, 3))
    down[:, 0, 0] = down[:, 1, 2] = 1
    down[:, 0, 1] = np.arange(height) - height // 2
    return across.astype(dtype), down.reshape(-1, 3).astype(dtype), np.ones(height, dtype)


def box_side(height: int, width: int) -> int:
    """Return the longer side of a digit in an image of this size, in pixels."""
    return max(1, round(min(height, width) * BOX_SHARE))
