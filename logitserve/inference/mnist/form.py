"""Recognize images in MNIST's format: light ink on black, with its size and centering.

Measured values are over the 60,000 training and 10,000 test images.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.mnist import moments

BOX_SHARE: Final = 20 / 28
"""Longer side of the digit / side of the image."""
CENTER_TOLERANCE: Final = 0.52
"""Pixels. Centering is by whole pixels, so at most one half; MNIST keeps it except for rounding
(measured: 0.5001; 0.520 in a copy without gray level 1)."""
BRIGHTEST: Final = 254
"""Minimum of the brightest pixel of an MNIST image (measured: 255 or 254)."""

EVEN: Final = 8
"""Gray levels by which even paper may vary (JPEG changes them by 1-4)."""

SMALL: Final = 0.5
"""Longer side of the ink / side of the image, below which ink is small: in MNIST about 0.7."""
FAR: Final = 0.2
"""Distance of the ink's middle from the image's / its side, above which ink is off-center: in MNIST
below 0.2 (measured)."""


def are_normalized(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return whether each image, uint8 `[n, h, w]`, is in MNIST's format: bool `[n]`.

    True for every MNIST image. In 16 of the 70,000, the box of the ink is a pixel short, as a faint
    edge was rounded to 0.
    """
    longest = box_side(*images.shape[1:])
    contiguous = np.ascontiguousarray(images)
    normalized = moments.are_normalized(contiguous, longest, CENTER_TOLERANCE, BRIGHTEST)
    return normalized.view(np.bool_)


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


def box_side(height: int, width: int) -> int:
    """Return the longer side of a digit in an image of this size, in pixels."""
    return max(1, round(min(height, width) * BOX_SHARE))
