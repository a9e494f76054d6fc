"""Draw an explanation map over the network's input image."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

FOR: Final = (86, 160, 255)
AGAINST: Final = (255, 100, 80)
"""Blue and red, distinguishable with red-green color blindness."""
SIDE: Final = 280
"""Minimum length of the longer side in pixels."""
STRONG: Final = 0.5
"""Share of the largest value from which a cell is also marked with a sign, for the color-blind."""


def overlay(
    image: npt.NDArray[np.uint8], cells: Sequence[Sequence[float | None]]
) -> npt.NDArray[np.uint8]:
    """Return the enlarged gray image: blue supports the label, red opposes it.

    Args:
        image: uint8, `[height, width, channels]`.
        cells: rows of cells that divide the image; None is left gray.

    Returns:
        uint8, `[height × n, width × n, 3]`.
    """
    height, width = (side * -(-SIDE // max(image.shape[:2])) for side in image.shape[:2])
    values = np.nan_to_num(np.array(cells, np.float64))
    relative = values / (np.abs(values).max() or 1)
    gray = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).convert("L")
    base = np.asarray(gray.resize((width, height), Image.Resampling.NEAREST), np.float64)
    smooth = Image.fromarray(relative.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    strength = np.asarray(smooth, np.float64)[..., np.newaxis]
    color = np.where(strength > 0, FOR, AGAINST)
    share = 0.75 * np.abs(strength)
    drawn = Image.fromarray((base[..., np.newaxis] * (1 - share) + color * share).astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    cell = height / len(values), width / values.shape[1]
    arm = min(cell) / 4
    for row, column in np.argwhere(np.abs(relative) >= STRONG):
        y, x = (row + 0.5) * cell[0], (column + 0.5) * cell[1]
        for ink, breadth in (("white", 4), ("black", 2)):  # visible on any background
            pen.line((x - arm, y, x + arm, y), ink, breadth)
            if relative[row, column] > 0:
                pen.line((x, y - arm, x, y + arm), ink, breadth)
    return np.asarray(drawn)
