"""Pictures that look nearly the same: frames of one film, shots of one burst, copies."""

from typing import Final, NamedTuple

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
_FAR: Final = 64
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


class Twins(NamedTuple):
    """Which pictures look nearly as one of others."""

    rows: npt.NDArray[np.int64]
    """`[n]`, of the nearest of the others that has the same labels; -1 where none is near."""
    by_chance: float
    """How many would have one by chance, by how often pictures of other labels look alike, which
    cannot be copies."""


def twins(some: Shown, others: Shown) -> Twins:
    """Look for each of some pictures among others, mirrored or shifted.

    Args:
        some: hashes and outcomes, `[n, variants]` and `[n, labels]`.
        others: likewise; of these the whole pictures are looked at.
    """
    hashed, outcomes = some
    rows, by_chance = np.full(len(hashed), -1), 0.0
    for start in range(0, len(hashed), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        differing = np.bitwise_count(hashed[chunk, :, None] ^ others[0][None, None, :, 0])
        nearest = differing.min(axis=1)  # [chunk, others]
        same = (outcomes[chunk, None] == others[1][None]).all(axis=2)
        rate = ((nearest <= CLOSE) & ~same).sum(axis=1) / np.maximum((~same).sum(axis=1), 1)
        by_chance += float((1 - (1 - rate) ** same.sum(axis=1)).sum())
        nearest[~same] = _FAR
        rows[chunk] = np.where(nearest.min(axis=1) <= CLOSE, nearest.argmin(axis=1), -1)
    return Twins(rows, by_chance)


def _variants(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Thumbnails, `[variants, 8, 9]`: the whole, mirrored, and without a margin at two sides."""
    gray = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    width, height = gray.size
    across, down = round(_MARGIN * width), round(_MARGIN * height)
    boxes = [(x, y, x + width - across, y + height - down) for x in (0, across) for y in (0, down)]
    whole = np.asarray(gray.resize((9, 8), Image.Resampling.BOX))
    pieces = [np.asarray(gray.resize((9, 8), Image.Resampling.BOX, box)) for box in boxes]
    return np.stack([whole, whole[:, ::-1], *pieces])
