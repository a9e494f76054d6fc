"""Covers parts of an image, and measures what that takes from an answer.

After Zeiler and Fergus 2014 (arXiv:1311.2901). The patches overlap, which makes a map stable.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from logitserve.inference.card import Fit

Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
"""`[n, rows, columns]`: cells that are covered. Cells divide an image evenly."""
Floats = npt.NDArray[np.float64]

CELLS: Final = 14
"""Of a side, unless it has fewer pixels."""
PATCH: Final = 3
"""Cells of a patch's side: of 28×28 pixels 6×6 are covered, one patch every 2."""
BLUR: Final = 12
"""Longer side of an image over the radius of the blur that covers it."""
SHARE: Final = 0.2
"""Of all cells, which are covered to see whether a map is right."""


class Occlusion:
    """One image whose parts are covered: by paper in handwriting, else by the image blurred."""

    def __init__(
        self, image: Pixels, fit: Fit, log_odds: Callable[[Pixels], Floats], whole: float
    ) -> None:
        """Prepare what covers.

        Args:
            image: uint8, `[height, width, channels]`.
            fit: of the network's input.
            log_odds: of images, `[n, height, width, channels]`.
            whole: log-odds of the image itself.
        """
        self.fill = "paper" if fit is Fit.DIGIT else "blur"
        self.pixels = image.shape[0] * image.shape[1]
        self._image = image
        self._filling = np.zeros_like(image) if fit is Fit.DIGIT else _blurred(image)
        self._log_odds = log_odds
        self._whole = whole

    def drops(self, masks: Masks) -> Floats:
        """By how much the log-odds fall under each mask, `[n]`."""
        height, width, _ = self._image.shape
        rows, columns = (
            np.arange(side) * cells // side
            for side, cells in zip((height, width), masks.shape[1:], strict=True)
        )
        pixels = masks[:, rows][:, :, columns, np.newaxis]
        return self._whole - self._log_odds(np.where(pixels, self._filling, self._image))

    def check(self, values: Floats) -> tuple[float, float]:
        """The drop when the top fifth of a map is covered, and when a random fifth is.

        Args:
            values: `[rows, columns]`; NaN counts as the lowest.
        """
        count = max(1, round(SHARE * values.size))
        top = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=None, kind="stable")
        drawn = np.random.default_rng(0).permutation(values.size)
        covered = [np.isin(np.arange(values.size), cells[:count]) for cells in (top, drawn)]
        of_top, of_drawn = (self.drops(mask.reshape(1, *values.shape))[0] for mask in covered)
        return float(of_top), float(of_drawn)


@lru_cache(4)
def patches(height: int, width: int) -> Masks:
    """Every patch of an image. The first ones cover it all, from the middle outwards.

    The array is read-only.
    """
    shape = min(CELLS, height), min(CELLS, width)
    last = [max(cells - PATCH, 0) for cells in shape]
    coarse = [{*range(0, end, PATCH), end} for end in last]

    def turn(corner: tuple[int, ...]) -> tuple[bool, float]:
        is_coarse = all(at in first for at, first in zip(corner, coarse, strict=True))
        return not is_coarse, sum((at - end / 2) ** 2 for at, end in zip(corner, last, strict=True))

    corners = sorted(product(*(range(end + 1) for end in last)), key=turn)
    masks = np.zeros((len(corners), *shape), np.bool_)
    for mask, (row, column) in zip(masks, corners, strict=True):
        mask[row : row + PATCH, column : column + PATCH] = True
    masks.flags.writeable = False
    return masks


def mean_drops(drops: Floats, masks: Masks) -> Floats:
    """The mean drop over the patches that cover a cell, `[rows, columns]`; NaN where none does."""
    count = masks.sum(axis=0)
    return np.where(count, np.tensordot(drops, masks, 1) / np.maximum(count, 1), np.nan)


def _blurred(image: Pixels) -> Pixels:
    blur = ImageFilter.GaussianBlur(max(image.shape[:2]) / BLUR)
    channels = [Image.fromarray(channel).filter(blur) for channel in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
