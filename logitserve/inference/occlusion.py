"""Cover parts of an image, and measure the change of the prediction.

Zeiler and Fergus 2014 (arXiv:1311.2901). Patches overlap, which makes a map stable.
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
"""`[n, rows, columns]`: True for covered cells. Cells divide an image evenly."""
Floats = npt.NDArray[np.float64]

CELLS: Final = 14
"""Cells per side, unless the image has fewer pixels."""
PATCH: Final = 3
"""Cells per side of a patch: 6×6 of 28×28 pixels are covered, with a stride of 2."""
BLUR: Final = 12
"""Longer side of an image / radius of the blur that covers cells."""
SHARE: Final = 0.2
"""Share of the cells that are covered to check a map."""


class Occlusion:
    """Covers parts of one image: handwriting with paper, other images with their blurred copy."""

    def __init__(
        self, image: Pixels, fit: Fit, log_odds: Callable[[Pixels], Floats], whole: float
    ) -> None:
        """Prepare the fill of covered cells.

        Args:
            image: uint8, `[height, width, channels]`.
            fit: fit of the network's input.
            log_odds: returns those of images, `[n, height, width, channels]`.
            whole: log-odds of the uncovered image.
        """
        self.fill = "paper" if fit is Fit.DIGIT else "blur"
        self.pixels = image.shape[0] * image.shape[1]
        self._image = image
        self._filling = np.zeros_like(image) if fit is Fit.DIGIT else _blurred(image)
        self._log_odds = log_odds
        self._whole = whole

    def drops(self, masks: Masks) -> Floats:
        """Return the decrease of the log-odds under each mask, `[n]`."""
        height, width, _ = self._image.shape
        rows, columns = (
            np.arange(side) * cells // side
            for side, cells in zip((height, width), masks.shape[1:], strict=True)
        )
        pixels = masks[:, rows][:, :, columns, np.newaxis]
        return self._whole - self._log_odds(np.where(pixels, self._filling, self._image))

    def check(self, values: Floats) -> tuple[float, float]:
        """Return the drops for the top fifth of a map and for a random fifth of the cells.

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
    """Return all patches of an image; the first ones cover the image, starting in the middle.

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
    """Return the mean drop of the patches on each cell, `[rows, columns]`; NaN without patches."""
    count = masks.sum(axis=0)
    return np.where(count, np.tensordot(drops, masks, 1) / np.maximum(count, 1), np.nan)


def _blurred(image: Pixels) -> Pixels:
    blur = ImageFilter.GaussianBlur(max(image.shape[:2]) / BLUR)
    channels = [Image.fromarray(channel).filter(blur) for channel in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
