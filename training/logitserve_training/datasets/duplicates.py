"""Pictures that look nearly the same: frames of one film, shots of one burst, copies."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve.inference.thumbnails import CLOSE, normalized, shrunken
from logitserve_training.datasets.dataset import Images
from logitserve_training.datasets.splits import Outcomes, Rows

_MARGIN: Final = 0.05
"""Of the side, that a shifted or closer frame lacks."""
_CHUNK: Final = 64
"""Pictures that are compared with all others at a time."""


class Twins(NamedTuple):
    """Which pictures look nearly as one of others."""

    pairs: list[tuple[int, int]]
    """Rows: of such a picture, and of the nearest of the others that has the same labels."""
    by_chance: float
    """How many pairs there would be by chance, by how often pictures of other labels look alike,
    which cannot be copies."""


def twins(images: Images, outcomes: Outcomes, tested: Rows) -> Twins:
    """Look for the pictures of the rows `tested` among all others, also mirrored or shifted."""
    others = np.setdiff1d(np.arange(len(images)), tested)
    wholes = np.stack([_thumbnails(images[row])[0] for row in others])
    pairs: list[tuple[int, int]] = []
    by_chance = 0.0
    for start in range(0, len(tested), _CHUNK):
        rows = tested[start : start + _CHUNK]
        shown = np.stack([_thumbnails(images[row]) for row in rows])  # [chunk, variants, pixels]
        alike = (shown @ wholes.T).max(axis=1)  # [chunk, others]
        same = (outcomes[rows, None] == outcomes[None, others]).all(axis=2)
        rate = ((alike >= CLOSE) & ~same).sum(axis=1) / np.maximum((~same).sum(axis=1), 1)
        by_chance += float((1 - (1 - rate) ** same.sum(axis=1)).sum())
        alike[~same] = -1
        near = alike.max(axis=1) >= CLOSE
        pairs += zip(rows[near].tolist(), others[alike[near].argmax(axis=1)].tolist(), strict=True)
    return Twins(pairs, by_chance)


def _thumbnails(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Of the whole, mirrored, and without a margin at two sides, `[variants, pixels]`."""
    gray = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    width, height = gray.size
    across, down = round(_MARGIN * width), round(_MARGIN * height)
    boxes = [(x, y, x + width - across, y + height - down) for x in (0, across) for y in (0, down)]
    whole = shrunken(gray)
    return normalized([whole, whole[:, ::-1], *(shrunken(gray, box) for box in boxes)])
