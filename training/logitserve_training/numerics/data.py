"""What the page's networks are trained on."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve_training.datasets.dataset import Dataset, LabeledImages, stratified_split
from logitserve_training.drawings import draw

_DRAWN: Final = 60
"""Pictures of each digit."""


def drawn() -> Dataset:
    """Digits drawn by the project, for a quick look without a data set."""
    images = np.stack(
        [
            np.array(draw(digit, seed=seed).convert("L"))[..., None]
            for seed in range(_DRAWN)
            for digit in range(10)
        ]
    )
    whole = LabeledImages(images, np.tile(np.arange(10), _DRAWN))
    train, validation = stratified_split(whole, held_out=len(whole) // 6, seed=0)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    return Dataset("drawn digits", digest, train, validation, validation)


def first(dataset: Dataset, pictures: int) -> Dataset:
    """The same with at most so many pictures to train on; MNIST's order is already mixed."""
    return replace(dataset, train=dataset.train[:pictures])


def changed(dataset: Dataset, change: Callable[[LabeledImages], LabeledImages]) -> Dataset:
    """The same after a change of what is fitted to and of what is measured on."""
    return replace(dataset, train=change(dataset.train), validation=change(dataset.validation))


def relabeled(dataset: Dataset, table: npt.NDArray[np.int64]) -> Dataset:
    """The same pictures with other classes: for each class its new one, or 0s and 1s."""
    return changed(dataset, lambda part: replace(part, classes=table[part.classes]))
