"""The files of a folder of pictures, with their labels."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve_training.datasets.dataset import Groups, Part
from logitserve_training.errors import DataFormatError, OptionError

SPLITS: Final[dict[str, Part]] = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Usual names of the three parts, for folders and in tables."""
_NAMED: Final = 5
"""Number of names listed in a message."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder, with their labels."""

    names: tuple[str, ...]
    """Names in messages: paths below the folder."""
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    outcomes: npt.NDArray[np.int64]
    """`[files, labels]`, 1 if the label holds."""
    is_exclusive: bool
    """Whether each file has one class, rather than any number of labels."""
    layout: str
    """The recognized layout, for messages."""
    groups: tuple[str, ...] | None = None
    parts: tuple[Part, ...] | None = None
    """Part of each file, if the folder defines it."""

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> "Listing":
        of_files: dict[str, Any] = {
            name: tuple(column[row] for row in rows)
            for name in ("names", "paths", "groups", "parts")
            if (column := getattr(self, name)) is not None
        }
        return replace(self, outcomes=self.outcomes[rows], **of_files)

    @property
    def group_numbers(self) -> Groups | None:
        """The groups in the form of `LabeledImages`."""
        return None if self.groups is None else np.unique(self.groups, return_inverse=True)[1]


def of_classes(folder: Path, paths: Sequence[Path], classes: Sequence[str], layout: str) -> Listing:
    """Return a listing of files with one class each; numeric labels are sorted as numbers."""
    order = np.argsort([path.as_posix() for path in paths], kind="stable")
    labels = ordered(set(classes))
    index = [labels.index(classes[row]) for row in order]
    found = tuple(paths[row] for row in order)
    return Listing(
        tuple(path.relative_to(folder).as_posix() for path in found),
        found,
        labels,
        np.eye(len(labels), dtype=np.int64)[index],
        is_exclusive=True,
        layout=layout,
    )


def joined(folder: Path, parts: Mapping[Part, Listing], layout: str) -> Listing:
    """Merge the listings of a folder's parts.

    Raises:
        DataFormatError: the layouts differ, or the training part lacks a label.
    """
    train = parts["train"]
    labels = ordered({label for one in parts.values() for label in one.labels})
    if unlearned := set(labels) - set(train.labels):
        raise DataFormatError(
            f"the training part of {folder} has no picture of {named(sorted(unlearned))}, which "
            f"other parts have; it has {named(train.labels)}"
        )
    if len({one.is_exclusive for one in parts.values()}) > 1:
        raise DataFormatError(f"the parts of {folder} have different layouts")
    groups = [one.groups for one in parts.values() if one.groups is not None]
    outcomes = [np.zeros((len(one.paths), len(labels)), np.int64) for one in parts.values()]
    for one, widened in zip(parts.values(), outcomes, strict=True):
        widened[:, [labels.index(label) for label in one.labels]] = one.outcomes
    return Listing(
        tuple(name for one in parts.values() for name in one.names),
        tuple(path for one in parts.values() for path in one.paths),
        labels,
        np.concatenate(outcomes),
        train.is_exclusive,
        layout,
        tuple(sum(groups, ())) if len(groups) == len(parts) else None,
        tuple(part for part, one in parts.items() for _ in one.paths),
    )


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Return sorted labels; as numbers if all are."""
    found = sorted(labels)
    return tuple(sorted(found, key=int) if all(map(str.isdecimal, found)) else found)


def named(names: Sequence[str]) -> str:
    """Return the first few names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def is_shown(name: str) -> bool:
    """Return whether an entry of a folder is neither hidden nor a system file."""
    return not name.startswith((".", "__")) and name not in ("Thumbs.db", "desktop.ini")


def matched(option: str, pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the match of a regular expression, or its first group, at the beginning of each name.

    The folders of a name are ignored.

    Raises:
        OptionError: the expression is invalid, or does not match a name; the text names the option.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise OptionError(
            f"{option} {pattern!r} is neither a column of the table nor a regular "
            f"expression: {error}"
        ) from error
    matches = [compiled.match(Path(name).name) for name in names]
    found = [match.group(1 if compiled.groups else 0) if match else None for match in matches]
    without = [name for name, one in zip(names, found, strict=True) if not one]
    if without:
        raise OptionError(
            f"{option} {pattern!r} is not a column of a table, and does not match the "
            f"beginning of {len(without)} file names: {named(without)}"
        )
    return tuple(one for one in found if one)
