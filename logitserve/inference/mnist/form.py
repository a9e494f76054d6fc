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
    normalized = _are_surely_normalized(pictures)
    for index in (~normalized).nonzero()[0]:
        normalized[index] = is_normalized(pictures[index])
    return normalized


def _are_surely_normalized(pictures: Picture) -> npt.NDArray[np.bool_]:
    """False also of the few whose center is off because they would not fit otherwise."""
    count, height, width = pictures.shape
    side = box_side(height, width)
    ink = pictures.astype(np.float32)  # a row or a column of bytes adds up in it exactly
    # As products with ones, which numpy forms faster than sums of so few numbers each.
    rows = (ink.reshape(-1, width) @ _ones(width)).reshape(count, height)
    columns = _ones(height) @ ink
    # Both axes are looked at in the same calls where they are equally long.
    profiles = [np.concatenate([rows, columns])] if height == width else [rows, columns]
    sized = np.zeros(count, np.bool_)
    normalized: npt.NDArray[np.bool_] = (
        np.maximum.reduce(pictures.reshape(count, -1), axis=1) >= min(FULL_INK)[0]
    )
    for profile in profiles:
        length = profile.shape[1]
        inked = profile != 0
        extent = length - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)
        moments = profile @ _weights(length)
        drifts = np.abs(moments[:, 1] / np.maximum(moments[:, 0], 1))  # no ink is no mass
        fits = ((drifts <= CENTER_TOLERANCE) & (extent <= side)).reshape(-1, count)
        normalized &= np.logical_and.reduce(fits)
        sized |= np.logical_or.reduce((extent >= side - 1).reshape(-1, count))
    normalized &= sized
    return normalized


@lru_cache(maxsize=8)
def _ones(length: int) -> npt.NDArray[np.float32]:
    return np.ones(length, np.float32)


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
