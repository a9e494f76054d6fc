"""Anybody's own pictures: a folder, read with the code that serves, in three parts."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from logitserve.inference import images as codec
from logitserve.inference import preprocessing
from logitserve.inference.card import DatasetInfo, Fit, Head, InputSpec
from logitserve.inference.errors import ImageError
from logitserve_training.datasets import duplicates, layouts
from logitserve_training.datasets.dataset import PARTS, Dataset, Groups, Images, LabeledImages
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.datasets.splits import Rows, stratified
from logitserve_training.errors import DataFormatError, OptionError
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Augmentation, FolderOptions, Recipe

LONGEST_SIDE: Final = 80
"""Pixels, of the network's input, unless another size is asked for."""
_LEAST_SIDE: Final = 8
_SAMPLE: Final = 200
"""Pictures that are looked at for size and color."""
_ASPECT_SPREAD: Final = 1.15
"""Pictures whose aspects differ by less are stretched to one; others would be distorted."""
_TINY: Final = 32
"""Pixels. Smaller pictures are of letters, digits or signs, which have no mirror image."""
_TWINS: Final = 0.05
"""Share of near-duplicates across parts above which a test says little."""
_FEW_GROUPS: Final = 4
"""With fewer left beside those to test on, validation is torn out of them: a network that has seen
another drive gains more than thresholds lose that were chosen on drives it knows."""

_LEAST: Final = 5
_REMEDY: Final = (
    "add pictures, or give that part a larger share (--test-split 0.25 --validation-split 0.25); "
    "with --group-by, name other --test-groups or drop it"
)
_FEW_OF_LABEL: Final = 5
"""Pictures of a label in a part below which a figure of it says next to nothing."""
_FEWEST: Final = 2
"""Pictures of a class: one to learn from and one to test on, or nothing can be said of it."""
_FEW_OF_CLASS: Final = 10
"""Pictures of a class below which a person is told to take more."""

_LARGER: Final = 1.25
"""Of the side that a backbone was trained at."""
_LONGEST_ASPECT: Final = 2.0
_STEP: Final = 16
"""Pixels: half of what most networks reduce to one place."""

PART_NAMES: Final = ("training", "validation", "test")
"""As a message says them."""


def load(recipe: Recipe, data: Path | None, reporter: Reporter) -> tuple[Recipe, Dataset]:
    """Read the folder; see `sources.Load`.

    Raises:
        OptionError: no folder is named, or the options do not suit it.
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
    spec = recipe.input if recipe.labels else _input(listed, options)
    _require_same_labels(recipe, data, head, labels)
    images, listed = _decoded(listed, spec, reporter)
    labeled = LabeledImages(images, _classes(listed, head), _group_numbers(listed))
    parts = _parts(listed, options)
    train, validation, test = (labeled[rows] for rows in parts)
    _report(listed, parts, images, spec, reporter)
    augmentation = _augmentation(labels, spec, options)
    reporter.line(
        f"  training pictures are {'' if augmentation.flip else 'not '}mirrored, and vary by "
        f"{options.crop:.0%} in size and place and {options.color:g} in light and color "
        f"(--flip {'no' if augmentation.flip else 'yes'}, --crop, --color change that)"
    )
    if head is Head.SIGMOID and (listed.outcomes.sum(axis=1) == 1).all():
        reporter.line(
            "WARNING: each picture has one label, but the labels are taken to be independent "
            "(sigmoid head); for one class each, say --head softmax"
        )
    recipe = replace(recipe, head=head, labels=labels, input=spec, augmentation=augmentation)
    names = {part: _lines(listed[rows]) for part, rows in zip(PARTS, parts, strict=True)}
    files = {
        part: tuple(listed.paths[row] for row in rows)
        for part, rows in zip(PARTS, parts, strict=True)
    }
    dataset = Dataset(
        data.resolve().name, _digest(listed), train, validation, test, names=names, files=files
    )
    return recipe, dataset


def of_model(
    recipe: Recipe, trained_on: DatasetInfo | None, data: Path, reporter: Reporter
) -> LabeledImages:
    """Pictures to measure a model on that was trained on a folder.

    Args:
        recipe: of the model, as `recipes.of_card` gives it.
        trained_on: what the card says of that folder.
        data: the same folder, of which the test part is taken, or another one with the same
            labels, which is taken whole.
        reporter: told which of both, and of files that are left out.

    Raises:
        DataError: the folder cannot be used, or has other labels.
    """
    options = recipe.folder or FolderOptions()
    try:
        listed = layouts.read(data, options)
    except OptionError:  # another folder has other names, columns and levels
        listed = layouts.read(data, replace(options, group_by=None, class_by=None, test_groups=()))
    head, labels = _head(listed, options)
    _require_same_labels(recipe, data, head, labels)
    images, listed = _decoded(listed, recipe.input, reporter)
    rows = np.arange(len(images))
    if trained_on is not None and trained_on.sha256 == _digest(listed):
        rows = _parts(listed, options)[2]
        reporter.line(f"{data} is what the model was trained on: its test part is taken")
    else:
        reporter.line(f"{data} is not what the model was trained on: all of it is taken")
    return LabeledImages(images, _classes(listed, head), _group_numbers(listed))[rows]


def _require_same_labels(recipe: Recipe, data: Path, head: Head, labels: tuple[str, ...]) -> None:
    if recipe.labels and (head, labels) != (recipe.head, recipe.labels):
        raise DataFormatError(
            f"{data} has the labels {', '.join(labels)} ({head}), but the model has "
            f"{', '.join(recipe.labels)} ({recipe.head})"
        )


def _head(listed: Listing, options: FolderOptions) -> tuple[Head, tuple[str, ...]]:
    """Which head suits, and the labels of its probabilities."""
    if len(listed.labels) == 1:
        return Head.BINARY, (f"no {listed.labels[0]}", listed.labels[0])
    if not listed.is_exclusive:
        if options.head not in (None, Head.SIGMOID):
            raise OptionError(
                f"--head {options.head}: pictures of {listed.layout} have many labels"
            )
        return Head.SIGMOID, listed.labels
    if options.head is Head.SIGMOID:
        raise OptionError(f"--head sigmoid: each picture has one class ({listed.layout})")
    if options.head is Head.BINARY and len(listed.labels) != 2:
        raise OptionError(f"--head binary is for two classes; there are {len(listed.labels)}")
    return options.head or Head.SOFTMAX, listed.labels


def _classes(listed: Listing, head: Head) -> npt.NDArray[np.int64]:
    """As `LabeledImages` has them."""
    if head is Head.SIGMOID:
        return listed.outcomes
    return listed.outcomes[:, 0] if len(listed.labels) == 1 else listed.outcomes.argmax(axis=1)


def _group_numbers(listed: Listing) -> Groups | None:
    return None if listed.groups is None else np.unique(listed.groups, return_inverse=True)[1]


def _input(listed: Listing, options: FolderOptions) -> InputSpec:
    """What the network takes, from the options and from some of the pictures."""
    rows = np.unique(np.linspace(0, len(listed.paths) - 1, _SAMPLE).astype(np.int64))
    sample = [found for row in rows if (found := _samples(listed.paths[row])) is not None]
    if not sample:
        raise DataFormatError(f"none of the files can be read as a picture: {named(listed.names)}")
    heights, widths = np.array([found.shape[:2] for found in sample], dtype=np.float64).T
    aspects = np.sort(widths / heights)
    low, high = np.quantile(aspects, [0.1, 0.9])
    scale = min(1.0, LONGEST_SIDE / float(max(np.median(heights), np.median(widths))))
    height, width = options.image_size or (
        max(_LEAST_SIDE, round(scale * float(np.median(side)))) for side in (heights, widths)
    )
    channels: Literal[1, 3] = 3 if any(map(_is_colored, sample)) else 1
    return InputSpec(
        height=height,
        width=width,
        channels=options.channels or channels,
        fit=Fit.STRETCH if high <= _ASPECT_SPREAD * low else Fit.PAD,
    )


def enlarged(data: Path, options: FolderOptions, native: tuple[int, int]) -> tuple[int, int]:
    """A height and width for a backbone: the pictures' aspect, and a little more than it learned.

    Networks that were trained on random crops find things best that are shown larger (Touvron,
    Vedaldi, Douze, Jégou 2019, "Fixing the train-test resolution discrepancy", arXiv:1906.06423).

    Args:
        data: the folder.
        options: how it is read.
        native: height and width that the backbone was exported for.
    """
    shown = _input(layouts.read(data, options), replace(options, image_size=None))
    aspect = float(np.clip(shown.width / shown.height, 1 / _LONGEST_ASPECT, _LONGEST_ASPECT))
    side = _LARGER * float(np.sqrt(native[0] * native[1]))
    height, width = (_STEP * round(one / _STEP) for one in (side / aspect**0.5, side * aspect**0.5))
    return max(height, _STEP), max(width, _STEP)


def _samples(path: Path) -> codec.Samples | None:
    try:
        return codec.decode(path.read_bytes())
    except (ImageError, OSError):
        return None  # `_decoded` says which and why


def _is_colored(samples: codec.Samples) -> bool:
    return (
        samples.ndim == 3
        and samples.shape[2] >= 3
        and bool(np.ptp(samples[:, :, :3], axis=2).any())
    )


def _decoded(listed: Listing, spec: InputSpec, reporter: Reporter) -> tuple[Images, Listing]:
    """The pictures that can be read, `[n, height, width, channels]`, and what they show."""
    images = np.zeros((len(listed.paths), *spec.shape), np.uint8)
    broken: dict[int, str] = {}
    with reporter.steps("read", len(listed.paths)) as advance:
        for row, path in enumerate(listed.paths):
            try:
                images[row] = preprocessing.decode(path.read_bytes(), spec)
            except (ImageError, OSError) as error:
                broken[row] = f"{listed.names[row]} ({error})"
            advance(1)
    if broken:
        reporter.line(
            f"left out {len(broken)} of {len(listed.paths)} files that are no whole pictures: "
            f"{named(list(broken.values()))}"
        )
    rows = np.setdiff1d(np.arange(len(listed.paths)), list(broken))
    listed = listed[rows]
    lost = [
        label
        for label, outcomes in zip(listed.labels, listed.outcomes.T, strict=True)
        if not outcomes.any()
    ]
    if lost:
        raise DataFormatError(f"no picture that can be read shows {named(lost)}")
    return images[rows], listed


def _parts(listed: Listing, options: FolderOptions) -> list[Rows]:
    """The rows to train on, to choose on and to test on."""
    everything = np.arange(len(listed.names))
    if listed.is_exclusive and not (counts := listed.outcomes.sum(axis=0)).min() >= _FEWEST:
        lone = [
            label for label, count in zip(listed.labels, counts, strict=True) if count < _FEWEST
        ]
        raise DataFormatError(
            f"one picture is too few for a class: {named(lone)}; add pictures, or remove the class"
        )
    if listed.parts is not None:
        parts = _given_parts(listed, np.array(listed.parts), options)
    elif listed.groups is None:
        parts = _split(listed, everything, options.test_split, options.validation_split)
    else:
        parts = _grouped_parts(listed, listed.groups, options)
    for rows, name in zip(parts, PART_NAMES, strict=True):
        if not len(rows):
            raise DataFormatError(f"no picture is left for the {name} part; {_REMEDY}")
    missing = _lacking(listed, parts[0])
    if missing:
        raise DataFormatError(
            f"the training part has no picture of {named(missing)}: each class needs one "
            f"there at least, {_LEAST} in all with the default shares; {_REMEDY}"
        )
    return parts


def _lacking(listed: Listing, rows: Rows) -> list[str]:
    """The labels that none of these pictures has."""
    counts = listed.outcomes[rows].sum(axis=0)
    return [label for label, count in zip(listed.labels, counts, strict=True) if not count]


def _given_parts(
    listed: Listing, part_of: npt.NDArray[np.str_], options: FolderOptions
) -> list[Rows]:
    """The parts that the folder says; what it does not say is torn out of its training part."""
    found = {part: np.flatnonzero(part_of == part) for part in PARTS}
    shares = {"validation": options.validation_split, "test": options.test_split}
    absent = [part for part in PARTS[1:] if not len(found[part])]
    if absent and len(found["train"]):
        torn = [shares[part] for part in absent]
        numbers = _group_numbers(listed)
        rows = found["train"]
        pieces = stratified(
            listed.outcomes[rows],
            [1 - sum(torn), *torn],
            groups=None if numbers is None else numbers[rows],
        )
        found |= {part: rows[piece] for part, piece in zip(["train", *absent], pieces, strict=True)}
    return [found[part] for part in PARTS]


def _grouped_parts(listed: Listing, groups: tuple[str, ...], options: FolderOptions) -> list[Rows]:
    unknown = sorted(set(options.test_groups) - set(groups))
    counts = Counter(groups)
    if unknown or len(counts) < (2 if options.test_groups else 3):
        there_are = ", ".join(f"{group} ({count})" for group, count in sorted(counts.items()))
        raise OptionError(
            f"--test-groups {unknown[0]}: no such group; there are {there_are}"
            if unknown
            else f"--group-by finds the groups {there_are}; training, validation and test need "
            "one each"
        )
    _, numbers = np.unique(groups, return_inverse=True)
    everything = np.arange(len(groups))
    if not options.test_groups:
        return _split(listed, everything, options.test_split, options.validation_split, numbers)
    is_test = np.isin(groups, options.test_groups)
    rest = everything[~is_test]
    if not len(rest):
        raise OptionError("--test-groups names every group; leave some to train on")
    are_few = len(np.unique(numbers[rest])) < _FEW_GROUPS
    train, validation = _split(
        listed, rest, 0.0, options.validation_split, None if are_few else numbers
    )
    return [train, validation, everything[is_test]]


def _split(
    listed: Listing,
    rows: Rows,
    test: float,
    validation: float,
    groups: npt.NDArray[np.int64] | None = None,
) -> list[Rows]:
    shares = [1 - test - validation, validation, *([test] if test else [])]
    found = stratified(
        listed.outcomes[rows], shares, groups=None if groups is None else groups[rows]
    )
    return [rows[part] for part in found]


def _augmentation(labels: tuple[str, ...], spec: InputSpec, options: FolderOptions) -> Augmentation:
    """Signs, letters and digits are moved, but not mirrored."""
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


def _report(
    listed: Listing, parts: list[Rows], images: Images, spec: InputSpec, reporter: Reporter
) -> None:
    """What was found, and a warning where the parts are not independent."""
    reporter.line(
        f"{len(images)} pictures, fit {spec.fit} to {spec.height}×{spec.width}×{spec.channels}"
    )
    for rows, name in zip(parts, PART_NAMES, strict=True):
        held = Counter() if listed.groups is None else Counter(listed.groups[row] for row in rows)
        of_groups = ", ".join(f"{group} ({count})" for group, count in held.most_common(8))
        reporter.line(f"  {name}: {len(rows)} pictures" + (f", groups {of_groups}" if held else ""))
    totals = listed.outcomes.sum(axis=0).tolist()
    scarce = [
        f"{label} ({count})"
        for label, count in zip(listed.labels, totals, strict=True)
        if count < _FEW_OF_CLASS
    ]
    if scarce:
        reporter.line(
            f"WARNING: fewer than {_FEW_OF_CLASS} pictures of {named(scarce)}: too few to learn "
            "from reliably; add pictures of them"
        )
    for rows, name in zip(parts[1:], PART_NAMES[1:], strict=True):
        counts = listed.outcomes[rows].sum(axis=0).tolist()
        few = [
            f"{label} ({count})"
            for label, count in zip(listed.labels, counts, strict=True)
            if count < _FEW_OF_LABEL
        ]
        if few:
            reporter.line(
                f"WARNING: the {name} part has few pictures of {named(few)}: what is said "
                f"of them there is a guess below {_FEW_OF_LABEL}; {_REMEDY}"
            )
    _warn_of_twins(listed, parts, images, reporter)


def _warn_of_twins(listed: Listing, parts: list[Rows], images: Images, reporter: Reporter) -> None:
    """Say where parts hold near-copies of each other: more than chance makes of two classes."""
    hashed = duplicates.hashes(images)
    for one, other in ((2, 0), (1, 0), (2, 1)):
        twins, by_chance = duplicates.shares_with_twin(
            (hashed[parts[one]], listed.outcomes[parts[one]]),
            (hashed[parts[other]], listed.outcomes[parts[other]]),
        )
        if twins - by_chance > _TWINS:
            reporter.line(
                f"WARNING: {twins:.0%} of the {PART_NAMES[one]} pictures look nearly like a "
                f"{PART_NAMES[other]} picture of the same labels (by chance {by_chance:.0%}), so "
                "the figures below may be far too good for new pictures; if pictures come from one "
                "film, place or person, keep them together with --group-by"
            )


def _digest(listed: Listing) -> str:
    """Over labels, names and contents."""
    return hashlib.sha256(("\n".join(listed.labels) + _lines(listed)).encode()).hexdigest()


def _lines(listed: Listing) -> str:
    """Name, digest of the content, and what it shows, of each file."""
    return "".join(
        f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n{outcomes.tolist()}\n"
        for name, path, outcomes in zip(listed.names, listed.paths, listed.outcomes, strict=True)
    )
