"""Pictures with their classes, in three parts: to fit, to choose, and to measure."""

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
"""`[n]`, index of the label; where many may hold `[n, labels]`, 1 for each that does, else 0."""
Groups = npt.NDArray[np.int64]
"""`[n]`, number of the drive, person … of each picture."""


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """Pictures and what each shows."""

    images: Images
    classes: Classes
    groups: Groups | None = None
    """None: each picture is on its own."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Self:
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, images=self.images[rows], classes=self.classes[rows], groups=groups)

    def joined(self, other: Self) -> Self:
        """The pictures of both."""
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
    """What the weights are fitted to."""
    validation: LabeledImages
    """What choices are made on."""
    test: LabeledImages
    """What is measured once, and never chosen on."""
    fresh: Callable[[int], LabeledImages] | None = None
    """More pictures like `train`, new ones for each number; None where there are no others."""
    names: dict[Part, str] | None = None
    """What tells the pictures of each part, where not their pixels: names and digests of files.

    A decoder of another version gives other pixels of the same file."""
    files: dict[Part, tuple[Path, ...]] | None = None
    """Where the pictures of each part lie, if each is a file."""
    folds: tuple[npt.NDArray[np.int64], ...] = ()
    """Rows that are tested on in turn, if that is done; each of the three parts is all pictures."""
    near_copies: tuple[tuple[Path, Path], ...] = ()
    """Pictures that are tested on, each beside one that looks nearly alike and is learned from,
    where these are too many to be chance."""

    @property
    def learned(self) -> LabeledImages:
        """The training and the validation part as one; each picture once."""
        return self.train if self.folds else self.train.joined(self.validation)

    @property
    def learned_files(self) -> tuple[Path, ...]:
        """Of `learned`; empty if none of the pictures are files."""
        files = self.files or dict.fromkeys(PARTS, ())
        return files["train"] + (() if self.folds else files["validation"])

    @cached_property
    def digests(self) -> dict[Part, str]:
        """Of each part, hexadecimal: equal only for the same pictures that show the same."""

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
        """The same pictures under other classes: the index of each one's new class."""
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
    """Hold some pictures out, each class in its share of the whole, rounded by largest remainder.

    Returns the rest and what is held out, fewer than there are, each in the order of `data`.
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
