"""Find near-duplicate pictures: video frames, bursts, copies."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve.inference.thumbnails import CLOSE, normalized, shrunken
from logitserve_training.datasets.dataset import Images
from logitserve_training.datasets.splits import Outcomes, Rows

_MARGIN: Final = 0.05
"""Share of each side cropped, to match shifted or enlarged frames."""
_CHUNK: Final = 64
"""Batch size of the comparison."""


class NearDuplicates(NamedTuple):
    """Near-duplicate pictures."""

    pairs: list[tuple[int, int]]
    """Rows of a picture and of its nearest near-duplicate with the same labels."""
    by_chance: float
    """Number of pairs expected by chance, estimated from pairs with different labels, which cannot
    be copies."""


def twins(images: Images, outcomes: Outcomes, tested: Rows) -> NearDuplicates:
    """Find near-duplicates of the rows `tested` among all others, also mirrored or shifted."""
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
    return NearDuplicates(pairs, by_chance)


def _thumbnails(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return thumbnails: whole, mirrored, and cropped, `[variants, pixels]`."""
    gray = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    width, height = gray.size
    across, down = round(_MARGIN * width), round(_MARGIN * height)
    boxes = [(x, y, x + width - across, y + height - down) for x in (0, across) for y in (0, down)]
    whole = shrunken(gray)
    return normalized([whole, whole[:, ::-1], *(shrunken(gray, box) for box in boxes)])
