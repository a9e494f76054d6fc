"""Scenes: up to four MNIST digits in one dark picture, labeled with the digits present.

Scenes are composed from seeds on demand, so that training never repeats one.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve_training import drawings
from logitserve_training.datasets.dataset import Dataset, Images, LabeledImages

SIDE: Final = 56
"""Side of the picture in pixels."""
MOST: Final = 4
"""Maximum number of digits; the number is uniform from 0."""
SCALES: Final = (0.7, 1.3)
"""Scale of each digit, uniform; at 1 its longer side is MNIST's 20 pixels."""
MOST_OVERLAP: Final = 0.12
"""Maximum overlap of two digits' boxes, as a share of the smaller."""

TRAIN_SIZE: Final = 40_000
"""Scenes per epoch."""
VALIDATION_SIZE: Final = 5_000
TEST_SIZE: Final = 10_000

_TRIES: Final = 20
"""Positions tried for a digit before it is made smaller."""
_FRESH, _VALIDATION, _TEST, _DRAWN = range(4)
"""First words of the parts' seeds."""

_Box = tuple[int, int, int, int]
"""Top, left, bottom, right; bottom and right are the first row and column outside."""


def from_digits(digits: Dataset) -> Dataset:
    """Return scenes for each part of MNIST, composed only of its own digits.

    Pictures are uint8 `[n, 56, 56, 1]`, classes `[n, 10]` of 0 and 1; `fresh` is unlimited.
    """
    rule = f"{SIDE} {MOST} {SCALES} {MOST_OVERLAP}"
    fresh = partial(_fresh, digits.train)
    return Dataset(
        name=f"scenes of {digits.name}",
        sha256=hashlib.sha256(f"{digits.sha256} {rule}".encode()).hexdigest(),
        train=fresh(0),
        validation=compose(digits.validation, count=VALIDATION_SIZE, seed=(_VALIDATION,)),
        test=compose(digits.test, count=TEST_SIZE, seed=(_TEST,)),
        fresh=fresh,
        names={part: f"{digest} {rule}" for part, digest in digits.digests.items()},
    )


def drawn(*, count: int) -> list[bytes]:
    """Return PNG files of scenes with digits drawn by the project."""
    digits = [np.asarray(drawings.draw(digit, seed=1).convert("L")) for digit in range(10)]
    parts = LabeledImages(np.stack(digits)[..., None], np.arange(10))
    scenes = compose(parts, count=count, seed=(_DRAWN,)).images
    return [drawings.to_png(Image.fromarray(scene[:, :, 0])) for scene in scenes]


def compose(digits: LabeledImages, *, count: int, seed: Sequence[int]) -> LabeledImages:
    """Compose scenes, uint8 `[count, 56, 56, 1]`, with classes `[count, 10]` of 0 and 1.

    Digits are uint8 `[n, 28, 28, 1]`, light on black, of the classes 0 to 9.
    """
    generator = np.random.default_rng(list(seed))
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    holds = np.zeros((count, 10), np.int64)
    for scene, held in zip(images[..., 0], holds, strict=True):
        chosen = generator.integers(len(digits), size=generator.integers(MOST + 1))
        boxes: list[_Box] = []
        for index in chosen:
            boxes.append(_place(digits.images[index, :, :, 0], scene, boxes, generator))
        held[digits.classes[chosen]] = 1
    return LabeledImages(images, holds)


def _fresh(digits: LabeledImages, number: int) -> LabeledImages:
    return compose(digits, count=TRAIN_SIZE, seed=(_FRESH, number))


def _place(
    digit: npt.NDArray[np.uint8], scene: Images, others: list[_Box], generator: np.random.Generator
) -> _Box:
    """Place a digit where there is room, smaller if needed; return its box."""
    ink = _ink(digit)
    scale = generator.uniform(*SCALES)
    while True:
        height, width = (max(1, round(scale * side)) for side in ink.shape)
        for top, left in zip(
            generator.integers(SIDE - height + 1, size=_TRIES).tolist(),
            generator.integers(SIDE - width + 1, size=_TRIES).tolist(),
            strict=True,
        ):
            box = (top, left, top + height, left + width)
            if all(_overlap(box, other) <= MOST_OVERLAP for other in others):
                resized = Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR)
                window = scene[top : top + height, left : left + width]
                np.maximum(window, np.asarray(resized), out=window)
                return box
        scale *= 0.9


def _ink(digit: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the digit without empty rows and columns around it."""
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _overlap(box: _Box, other: _Box) -> float:
    """Return the overlap of two boxes as a share of the smaller."""
    height = min(box[2], other[2]) - max(box[0], other[0])
    width = min(box[3], other[3]) - max(box[1], other[1])
    areas = [(bottom - top) * (right - left) for top, left, bottom, right in (box, other)]
    return max(height, 0) * max(width, 0) / min(areas)
