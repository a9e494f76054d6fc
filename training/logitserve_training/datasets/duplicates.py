"""Pictures that look nearly the same: frames of one film, shots of one burst, copies."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve_training.datasets.dataset import Images

Hashes = npt.NDArray[np.uint64]

CLOSE: Final = 6
"""Bits of 64 in which the hashes of two shots of one thing may differ."""
_CHUNK: Final = 256
"""Pictures that are compared with all others at a time."""


def hashes(images: Images) -> Hashes:
    """The difference hash of each picture: whether it gets lighter from left to right, 8 × 8 times.

    After Neal Krawetz 2013, "Kind of Like That" (hackerfactor.com).

    Args:
        images: uint8, `[n, height, width, channels]`.

    Returns:
        `[n]`.
    """
    small = np.stack([_shrunk(image) for image in images])  # [n, 8, 9]
    bits = np.packbits(small[:, :, 1:] > small[:, :, :-1], axis=-1)  # [n, 8, 1]
    return np.ascontiguousarray(bits[:, :, 0]).view(np.uint64)[:, 0]


def share_with_twin(some: Hashes, others: Hashes) -> float:
    """Share of the first that look nearly as one of the others."""
    found = 0
    for start in range(0, len(some), _CHUNK):
        differing = np.bitwise_count(some[start : start + _CHUNK, None] ^ others[None])
        found += int((differing.min(axis=1) <= CLOSE).sum())
    return found / len(some)


def _shrunk(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    gray = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L")
    return np.asarray(gray.resize((9, 8), Image.Resampling.BOX))
