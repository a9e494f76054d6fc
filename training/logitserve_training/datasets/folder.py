"""A folder of the user's own pictures, decoded as in serving, in three parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import DatasetInfo, Head, InputSpec
from logitserve_training.datasets import findings, layouts
from logitserve_training.datasets.dataset import PARTS, Dataset, LabeledImages
from logitserve_training.datasets.decoding import decoded, input_of
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.parts import parted
from logitserve_training.errors import DataFormatError, OptionError
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Augmentation, FolderOptions, Recipe

_TINY: Final = 32
"""Pixels. Smaller pictures are likely letters, digits or signs, which must not be mirrored."""


def load(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """Read the folder; see `sources.load`.

    Raises:
        OptionError: no folder is given, or the options do not fit it.
        DataError: the folder cannot be used.
    """
    options = recipe.folder or FolderOptions()
    if data is None:
        raise OptionError("the recipe 'folder' needs --data, the folder with the pictures")
    listed = layouts.read(data, options)
    reporter.line(
        f"{len(listed.paths)} pictures, {len(listed.labels)} "
        f"{'classes' if listed.is_exclusive else 'labels'} ({named(listed.labels)}): "
        f"{listed.layout}"
    )
    head, labels = _head(listed, options)
    spec = recipe.input if recipe.labels else input_of(listed, options)
    _require_same_labels(recipe, data, head, labels)
    images, listed = decoded(listed, spec, reporter)
    labeled = LabeledImages(images, _classes(listed, head), listed.group_numbers)
    parts = parted(listed, options)
    contents = _contents(listed)
    near = findings.report(listed, parts, images, spec, reporter)
    findings.warn_of_contradictions(listed, contents, reporter)
    augmentation = _augmentation(labels, spec, options)
    reporter.line(
        f"  training pictures are {'' if augmentation.flip else 'not '}mirrored, and vary by "
        f"{options.crop:.0%} in size and place and {options.color:g} in light and color "
        f"(--flip {'no' if augmentation.flip else 'yes'}, --crop, --color change that)"
    )
    if head is Head.SIGMOID and (listed.outcomes.sum(axis=1) == 1).all():
        reporter.line(
            "WARNING: each picture has one label, but the labels are treated as independent "
            "(sigmoid head); for one class per picture, give --head softmax"
        )
    recipe = replace(recipe, head=head, labels=labels, input=spec, augmentation=augmentation)
    lines = _lines(listed, contents)
    rows_of = dict(zip(PARTS, parts[:3], strict=True))
    train, validation, test = (labeled[rows] for rows in parts[:3])
    dataset = Dataset(
        data.resolve().name,
        _digest(listed, lines),
        train,
        validation,
        test,
        names={part: "".join(lines[row] for row in rows) for part, rows in rows_of.items()},
        files={part: tuple(listed.paths[row] for row in rows) for part, rows in rows_of.items()},
        folds=parts.folds,
        near_copies=tuple((listed.paths[one], listed.paths[other]) for one, other in near),
    )
    return recipe, dataset


def of_model(
    recipe: Recipe, trained_on: DatasetInfo | None, data: Path, reporter: Reporter
) -> LabeledImages:
    """Return pictures to evaluate a model that was trained on a folder.

    From the same folder, the test part; from another one with the same labels, all pictures.

    Raises:
        OptionError: the folder is the same, and the model was fitted to all of it.
        DataError: the folder cannot be used, or its labels differ.
    """
    options = recipe.folder or FolderOptions()
    try:
        listed = layouts.read(data, options)
    except OptionError:  # another folder may have other names, columns and levels
        listed = layouts.read(data, replace(options, group_by=None, class_by=None, test_groups=()))
    head, labels = _head(listed, options)
    _require_same_labels(recipe, data, head, labels)
    images, listed = decoded(listed, recipe.input, reporter)
    rows = np.arange(len(images))
    if trained_on is not None and trained_on.sha256 == _digest(
        listed, _lines(listed, _contents(listed))
    ):
        if trained_on.folds:
            raise OptionError(
                f"the model was fitted to all of {data} (--folds {trained_on.folds}), and its card "
                "has the cross-validated metrics; evaluate it on a new folder"
            )
        rows = parted(listed, options).test
        reporter.line(f"{data} is the training data of the model: its test part is used")
    else:
        reporter.line(f"{data} is not the training data of the model: all of it is used")
    return LabeledImages(images, _classes(listed, head), listed.group_numbers)[rows]


def _require_same_labels(recipe: Recipe, data: Path, head: Head, labels: tuple[str, ...]) -> None:
    if recipe.labels and (head, labels) != (recipe.head, recipe.labels):
        raise DataFormatError(
            f"{data} has the labels {', '.join(labels)} ({head}), but the model has "
            f"{', '.join(recipe.labels)} ({recipe.head})"
        )


def _head(listed: Listing, options: FolderOptions) -> tuple[Head, tuple[str, ...]]:
    """Return the head that fits the labels, and the labels of its probabilities."""
    if len(listed.labels) == 1:
        return Head.BINARY, (f"no {listed.labels[0]}", listed.labels[0])
    if not listed.is_exclusive:
        if options.head not in (None, Head.SIGMOID):
            raise OptionError(
                f"--head {options.head}: pictures with {listed.layout} have several labels"
            )
        return Head.SIGMOID, listed.labels
    if options.head is Head.SIGMOID:
        raise OptionError(f"--head sigmoid: each picture has one class ({listed.layout})")
    if options.head is Head.BINARY and len(listed.labels) != 2:
        raise OptionError(f"--head binary needs two classes; there are {len(listed.labels)}")
    return options.head or Head.SOFTMAX, listed.labels


def _classes(listed: Listing, head: Head) -> npt.NDArray[np.int64]:
    """Return the classes in the form of `LabeledImages`."""
    if head is Head.SIGMOID:
        return listed.outcomes
    return listed.outcomes[:, 0] if len(listed.labels) == 1 else listed.outcomes.argmax(axis=1)


def _augmentation(labels: tuple[str, ...], spec: InputSpec, options: FolderOptions) -> Augmentation:
    """Choose the augmentation; signs, letters and digits are shifted, but not mirrored."""
    are_signs = max(spec.height, spec.width) <= _TINY or all(len(label) == 1 for label in labels)
    return Augmentation(
        rotation=5.0,
        scale=options.crop,
        shear=0.05,
        shift=options.crop / 2 * min(spec.height, spec.width),
        elastic=0.0,
        flip=not are_signs if options.flip is None else options.flip,
        color=options.color,
    )


def _digest(listed: Listing, lines: Sequence[str]) -> str:
    """Return the digest over labels, names and contents."""
    return hashlib.sha256(("\n".join(listed.labels) + "".join(lines)).encode()).hexdigest()


def _contents(listed: Listing) -> list[str]:
    """Return the digest of each file."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in listed.paths]


def _lines(listed: Listing, contents: Sequence[str]) -> list[str]:
    """Return name, content digest, and labels of each file."""
    return [
        f"{name}\n{content}\n{outcomes.tolist()}\n"
        for name, content, outcomes in zip(listed.names, contents, listed.outcomes, strict=True)
    ]
