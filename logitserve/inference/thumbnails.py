"""Small gray versions of pictures, whose products say which pictures look nearly the same."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[int, int, int, int]

CLOSE: Final = 0.97
"""Correlation of thumbnails from which two pictures are taken for shots of one thing. Frames of one
film have 0.995 (median); of 1,500 written digits, one in 25 has another of its class so near."""
SIDE: Final = 16
"""Pixels of a thumbnail."""


def shrunken(image: Image.Image, box: Box | None = None) -> npt.NDArray[np.uint8]:
    """A picture, or a part of it, `[SIDE, SIDE]` in gray."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, box))


def normalized(pictures: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """`[n, pixels]`, each with the mean 0 and the length 1: products are correlations."""
    found = np.stack(pictures).reshape(len(pictures), -1).astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    return found
