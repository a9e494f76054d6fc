"""Labeled pictures in three parts: training, validation and test."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import DatasetInfo

Images = npt.NDArray[np.uint8]
"""`[n, height, width, channels]`."""
Classes = npt.NDArray[np.int64]
"""`[n]`, index of the label; for multilabel data `[n, labels]` of 0 and 1."""
Groups = npt.NDArray[np.int64]
"""`[n]`, group number (drive, person …) of each picture."""


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """Pictures with their classes."""

    images: Images
    classes: Classes
    groups: Groups | None = None
    """None: all pictures are independent."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Self:
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, images=self.images[rows], classes=self.classes[rows], groups=groups)

    def joined(self, other: Self) -> Self:
        """Concatenate both."""
        groups = None
        if self.groups is not None and other.groups is not None:
            groups = np.concatenate([self.groups, other.groups])
        return replace(
            self,
            images=np.concatenate([self.images, other.images]),
            classes=np.concatenate([self.classes, other.classes]),
            groups=groups,
        )


Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """The three parts of a data set."""

    name: str
    sha256: str
    """Digest over the data set's files, hexadecimal."""
    train: LabeledImages
    """For fitting the weights."""
    validation: LabeledImages
    """For model selection and calibration."""
    test: LabeledImages
    """For the final evaluation only."""
    fresh: Callable[[int], LabeledImages] | None = None
    """Returns new pictures like `train` for each number; None if there are no others."""
    names: dict[Part, str] | None = None
    """Identity of each part's pictures, if not their pixels: names and digests of files.

    Another decoder version may give other pixels for the same file."""
    files: dict[Part, tuple[Path, ...]] | None = None
    """Files of each part, if each picture is a file."""
    folds: tuple[npt.NDArray[np.int64], ...] = ()
    """Rows of the test folds; then each of the three parts is all pictures."""
    near_copies: tuple[tuple[Path, Path], ...] = ()
    """Pairs (test, training) of near-duplicate pictures, if there are more than expected by
    chance."""

    @property
    def learned(self) -> LabeledImages:
        """The training and validation parts, without duplicates."""
        return self.train if self.folds else self.train.joined(self.validation)

    @property
    def learned_files(self) -> tuple[Path, ...]:
        """The files of `learned`; empty if pictures are not files."""
        files = self.files or dict.fromkeys(PARTS, ())
        return files["train"] + (() if self.folds else files["validation"])

    @cached_property
    def digests(self) -> dict[Part, str]:
        """Digest of each part, hexadecimal: equal only for equal pictures and classes."""

        def content(part: LabeledImages) -> bytes:
            return hashlib.sha256(part.images.tobytes() + part.classes.tobytes()).digest()

        parts = zip(PARTS, (self.train, self.validation, self.test), strict=True)
        return {
            name: hashlib.sha256(
                content(part) if self.names is None else self.names[name].encode()
            ).hexdigest()
            for name, part in parts
        }

    @property
    def info(self) -> DatasetInfo:
        """The card's entry."""
        return DatasetInfo(
            name=self.name,
            sha256=self.sha256,
            train=len(self.train),
            validation=len(self.validation),
            test=len(self.test),
            parts=self.digests,
            folds=len(self.folds) or None,
        )

    def regrouped(self, class_of: Sequence[int]) -> Self:
        """Return the pictures with other classes, given the new index of each class."""
        table = np.array(class_of, dtype=np.int64)

        def regroup(part: LabeledImages) -> LabeledImages:
            return replace(part, classes=table[part.classes])

        return replace(
            self,
            train=regroup(self.train),
            validation=regroup(self.validation),
            test=regroup(self.test),
        )


def stratified_split(
    data: LabeledImages, *, held_out: int, seed: int
) -> tuple[LabeledImages, LabeledImages]:
    """Hold out pictures, stratified by class, rounded by largest remainder.

    Returns the rest and the held-out pictures, each in the order of `data`.
    """
    counts = np.bincount(data.classes)
    shares = counts * held_out / len(data)
    quota = np.floor(shares).astype(np.int64)
    largest_remainders = np.argsort(quota - shares, kind="stable")[: held_out - quota.sum()]
    quota[largest_remainders] += 1

    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(data), dtype=bool)
    for index, count in enumerate(quota):
        members = np.flatnonzero(data.classes == index)
        is_held_out[generator.permutation(members)[:count]] = True
    return data[np.flatnonzero(~is_held_out)], data[np.flatnonzero(is_held_out)]
