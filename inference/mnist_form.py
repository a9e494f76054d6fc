"""Whether pictures are made the way MNIST was made: black paper, white ink, size, center.

True of every MNIST picture. The question stands before every request, so there are two ways to ask
it, with one answer. Of one picture it is asked on bytes, whose search and strip cost less than
numpy's calls on so few pixels; of many, in one pass of numpy, whose calls then cost less each
(`benchmarks/costs.py`).

Numbers said to be measured are over the 60,000 training and 10,000 test pictures.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom are the first column and row outside."""
Profile = npt.NDArray[np.float64]
"""`[n, length]`: the ink of each picture along one of its axes."""

BOX_SHARE: Final = 20 / 28
"""Longer side of the digit over the side of the picture."""
CENTER_TOLERANCE: Final = 0.52
"""Pixels. Centering is by whole pixels, so half of one, and MNIST keeps to it but for rounding
(measured: 0.5001; 0.520 where a copy has lost its gray level 1)."""
FULL_INK: Final = (b"\xff", b"\xfe")
"""The brightest pixel of an MNIST picture is 255 or 254 (measured)."""


def is_normalized(luminance: Picture) -> bool:
    """Whether a picture, uint8 `[h, w]`, is made like MNIST: black paper, white ink, size, center.

    True of every MNIST picture.
    """
    height, width = luminance.shape
    by_row = luminance.tobytes()
    if FULL_INK[0] not in by_row and FULL_INK[1] not in by_row:
        return False
    left, top, right, bottom = box = extent(by_row, luminance.T.tobytes(), height, width)
    side = box_side(height, width)
    # 16 of the 70,000 are one short: their faint edge was rounded away (measured).
    if not side - 1 <= max(bottom - top, right - left) <= side:
        return False
    down, across = drift(luminance, box)
    return abs(down) <= CENTER_TOLERANCE and abs(across) <= CENTER_TOLERANCE


def are_normalized(pictures: Picture) -> npt.NDArray[np.bool_]:
    """`is_normalized` of each picture, bool `[n]`; they are uint8, `[n, h, w]`."""
    count, height, width = pictures.shape
    side = box_side(height, width)
    longer = np.zeros(count, np.int64)
    centered = np.ones(count, np.bool_)
    for profile in _profiles(pictures):
        length = profile.shape[1]
        inked = profile != 0
        begin, end = inked.argmax(axis=1), length - inked[:, ::-1].argmax(axis=1)
        longer = np.maximum(longer, end - begin)
        mass, moment = (profile @ _weights(length)).T
        # Where there is no ink, `full` is false.
        drifts = np.minimum(np.maximum(-moment / np.maximum(mass, 1), -begin), length - end)
        centered &= np.abs(drifts) <= CENTER_TOLERANCE
    full = np.maximum.reduce(pictures.reshape(count, -1), axis=1) >= min(FULL_INK)[0]
    normalized: npt.NDArray[np.bool_] = full & centered & (longer <= side) & (longer >= side - 1)
    return normalized


def _profiles(pictures: Picture) -> tuple[Profile, Profile]:
    """The ink of each row and of each column; pictures are uint8, `[n, h, w]`.

    As products with ones, which numpy forms faster than sums of so few numbers each.
    """
    count, height, width = pictures.shape
    ink = pictures.astype(np.float32)  # a row or a column of bytes adds up in it exactly
    rows = (ink.reshape(-1, width) @ np.ones(width, np.float32)).reshape(count, height)
    columns = np.ones(height, np.float32) @ ink
    return rows.astype(np.float64), columns.astype(np.float64)


@lru_cache(maxsize=8)
def _weights(length: int) -> npt.NDArray[np.float64]:
    """`[length, 2]`: a profile times this is its mass and its moment about the center."""
    return np.stack([np.ones(length), np.arange(length) - length // 2], axis=-1)


def box_side(height: int, width: int) -> int:
    """Pixels of the longer side of a digit in a picture of this size."""
    return max(1, round(min(height, width) * BOX_SHARE))


def extent(by_row: bytes, by_column: bytes, height: int, width: int) -> Box:
    """Smallest box around what is not 0, from the pixels in both orders; there must be some."""
    end = height * width
    return (
        (end - len(by_column.lstrip(b"\0"))) // height,
        (end - len(by_row.lstrip(b"\0"))) // width,
        -(-len(by_column.rstrip(b"\0")) // height),
        -(-len(by_row.rstrip(b"\0")) // width),
    )


@lru_cache(maxsize=8)
def _moments(height: int, width: int) -> npt.NDArray[np.float64]:
    """`[height * width, 3]`: a flat picture times this is its mass and its moments y and x.

    The origin is the center, which in MNIST is index 14 of 0-27.
    """
    y, x = np.indices((height, width), dtype=np.float64)
    moments = np.stack([np.ones_like(y), y - height // 2, x - width // 2], axis=-1)
    return moments.reshape(-1, 3)


def drift(picture: Picture, box: Box) -> tuple[float, float]:
    """Pixels, down and right, that the ink must move to be centered but stay in the picture."""
    height, width = picture.shape
    left, top, right, bottom = box
    mass, y, x = picture.ravel().astype(np.float64).dot(_moments(height, width)).tolist()
    return (
        min(max(-y / mass, -top), height - bottom),
        min(max(-x / mass, -left), width - right),
    )
