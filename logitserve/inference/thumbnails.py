"""Gray thumbnails of pictures, whose dot products find near-duplicates."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[int, int, int, int]

CLOSE: Final = 0.97
"""Correlation of thumbnails from which two pictures are near-duplicates. Adjacent video frames have
0.995 (median); of 1,500 handwritten digits, one in 25 is as near to another of its class."""
SIDE: Final = 16
"""Side of a thumbnail in pixels."""


def shrunken(image: Image.Image, box: Box | None = None) -> npt.NDArray[np.uint8]:
    """Shrink a picture, or a part of it, to gray `[SIDE, SIDE]`."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, box))


def normalized(pictures: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return `[n, pixels]`, each with mean 0 and norm 1: dot products are correlations."""
    found = np.stack(pictures).reshape(len(pictures), -1).astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
    return found
