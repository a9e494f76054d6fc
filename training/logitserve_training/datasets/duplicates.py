"""Pictures that look nearly the same: frames of one film, shots of one burst, copies."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve_training.datasets.dataset import Images

Hashes = npt.NDArray[np.uint64]
Shown = tuple[Hashes, npt.NDArray[np.int64]]
"""Hashes, and which labels hold of each picture."""

CLOSE: Final = 6
"""Bits of 64 in which the hashes of two shots of one thing may differ."""
_MARGIN: Final = 0.05
"""Of the side, that a shifted or closer frame lacks."""
_CHUNK: Final = 64
"""Pictures that are compared with all others at a time."""


def hashes(images: Images) -> Hashes:
    """Difference hashes of each picture: whether it gets lighter from left to right, 8 × 8 times.

    Of the whole, of its mirror image, and of four pieces, so that shifted frames are found too.
    After Neal Krawetz 2013, "Kind of Like That" (hackerfactor.com).

    Args:
        images: uint8, `[n, height, width, channels]`.

    Returns:
        `[n, variants]`, the whole first.
    """
    small = np.stack([_variants(image) for image in images])  # [n, variants, 8, 9]
    bits = np.packbits(small[..., 1:] > small[..., :-1], axis=-1)  # [n, variants, 8, 1]
    return np.ascontiguousarray(bits[..., 0]).view(np.uint64)[..., 0]


def shares_with_twin(some: Shown, others: Shown) -> tuple[float, float]:
    """Share of the first that look nearly as one of the others, mirrored or shifted.

    Args:
        some: hashes and outcomes, `[n, variants]` and `[n, labels]`.
        others: likewise; of these the whole pictures are looked at.

    Returns:
        with one of the same labels; and what chance makes of as many pictures, by how often
        pictures of other labels look alike, which cannot be copies.
    """
    alike = by_chance = 0.0
    hashed, outcomes = some
    for start in range(0, len(hashed), _CHUNK):
        rows = slice(start, start + _CHUNK)
        differing = np.bitwise_count(hashed[rows, :, None] ^ others[0][None, None, :, 0])
        close = (differing <= CLOSE).any(axis=1)  # [chunk, others]
        same = (outcomes[rows, None] == others[1][None]).all(axis=2)
        alike += float((close & same).any(axis=1).sum())
        rate = (close & ~same).sum(axis=1) / np.maximum((~same).sum(axis=1), 1)
        by_chance += float((1 - (1 - rate) ** same.sum(axis=1)).sum())
    return alike / len(hashed), by_chance / len(hashed)


def _variants(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Thumbnails, `[variants, 8, 9]`: the whole, mirrored, and without a margin at two sides."""
    gray = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    width, height = gray.size
    across, down = round(_MARGIN * width), round(_MARGIN * height)
    boxes = [(x, y, x + width - across, y + height - down) for x in (0, across) for y in (0, down)]
    whole = np.asarray(gray.resize((9, 8), Image.Resampling.BOX))
    pieces = [np.asarray(gray.resize((9, 8), Image.Resampling.BOX, box)) for box in boxes]
    return np.stack([whole, whole[:, ::-1], *pieces])
