"""What the page's networks are trained on."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from logitserve_training.datasets import mnist
from logitserve_training.datasets.dataset import Dataset, LabeledImages, stratified_split
from logitserve_training.drawings import draw
from logitserve_training.progress import Reporter

_DRAWN: Final = 60
"""Pictures of each digit."""


def load(data: Path | None, reporter: Reporter) -> Dataset:
    """MNIST, from a folder or the cache.

    Raises:
        DataError: it cannot be used.
    """
    return mnist.load(data, reporter)


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
