"""What a folder of pictures says about itself: which files there are, and what each shows."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve_training.errors import DataFormatError, DataMissingError, OptionError

LABELS_FILE: Final = "labels.csv"
_IMAGES: Final = "images"
_NAMED: Final = 5
"""Files that a message names before it says how many more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder, in the order of their names."""

    names: tuple[str, ...]
    """As they are spoken of."""
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    outcomes: npt.NDArray[np.int64]
    """`[files, labels]`, 1 where the label holds."""
    is_exclusive: bool
    """Whether each file has one class, rather than any number of labels."""
    groups: tuple[str, ...] | None
    """Of each file."""

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> "Listing":
        return Listing(
            tuple(self.names[row] for row in rows),
            tuple(self.paths[row] for row in rows),
            self.labels,
            self.outcomes[rows],
            self.is_exclusive,
            None if self.groups is None else tuple(self.groups[row] for row in rows),
        )


def read(folder: Path, group_by: str | None) -> Listing:
    """Look at a folder.

    Args:
        folder: with one folder a class, or with `labels.csv`.
        group_by: a column of `labels.csv`, or a regular expression for the beginning of the file
            names, whose first bracket (or all of it) names the group.

    Raises:
        DataMissingError: there is no such folder, or it lacks files that it names.
        DataFormatError: it is laid out in neither way, or `labels.csv` cannot be read.
        OptionError: `group_by` does not group every file.
    """
    if not folder.is_dir():
        raise DataMissingError(f"{folder} is not a folder; name the one with the pictures: --data")
    table = folder / LABELS_FILE
    return _of_table(table, group_by) if table.is_file() else _of_classes(folder, group_by)


def named(names: Sequence[str]) -> str:
    """The first few of several names, and how many there are more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _of_classes(folder: Path, group_by: str | None) -> Listing:
    """`<class>/<picture>`."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and _is_shown(path))
    files = {path.name: sorted(filter(_is_picture, path.iterdir())) for path in classes}
    if len(classes) < 2:
        raise DataFormatError(
            f"{folder} has neither {LABELS_FILE} nor two folders or more, one for each class; "
            f"it has {named([path.name for path in classes]) or 'no folder at all'}"
        )
    empty = [name for name, found in files.items() if not found]
    if empty:
        raise DataFormatError(
            f"no pictures in the class folders {named(empty)} of {folder}; fill or remove them"
        )
    paths = [path for found in files.values() for path in found]
    names = [str(path.relative_to(folder)) for path in paths]
    class_of = np.repeat(np.arange(len(files)), [len(found) for found in files.values()])
    return Listing(
        tuple(names),
        tuple(paths),
        tuple(files),
        np.eye(len(files), dtype=np.int64)[class_of],
        is_exclusive=True,
        groups=_matched(group_by, names),
    )


def _of_table(table: Path, group_by: str | None) -> Listing:
    """`filename,label…` with 0 and 1."""
    header, rows = _cells(table)
    is_column = group_by in header[1:]
    label_columns = [
        index for index, name in enumerate(header) if index and not (is_column and name == group_by)
    ]
    labels = tuple(header[index] for index in label_columns)
    if not labels or not all(labels) or len(set(labels)) < len(labels):
        raise DataFormatError(
            f"{table}, line 1: after 'filename' there must be one column or more, each with a "
            f"label of its own; there is {','.join(header)!r}"
        )
    names = [row[0] for _, row in rows]
    outcomes = [
        [_outcome(table, line, row[i], header[i]) for i in label_columns] for line, row in rows
    ]
    groups = (
        tuple(row[header.index(group_by)] for _, row in rows) if is_column and group_by else None
    )
    return Listing(
        tuple(names),
        tuple(_found(table, names)),
        labels,
        np.array(outcomes, dtype=np.int64),
        is_exclusive=False,
        groups=groups or _matched(group_by, names),
    )


def _cells(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the other rows with the numbers of their lines."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:  # as spreadsheets write it
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFormatError(f"{table} cannot be read as CSV in UTF-8: {error}") from error
    if not lines or lines[0][1][0] != "filename":
        raise DataFormatError(f"{table}, line 1: it must be 'filename,' and the labels")
    header, rows = lines[0][1], lines[1:]
    seen: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise DataFormatError(
                f"{table}, line {line}: {len(row)} cells where the first line has {len(header)}"
            )
        if row[0] in seen:
            raise DataFormatError(
                f"{table}, line {line}: {row[0]!r} stands in line {seen[row[0]]} already"
            )
        seen[row[0]] = line
    if not rows:
        raise DataFormatError(f"{table} has a first line and nothing below it")
    return header, rows


def _outcome(table: Path, line: int, cell: str, label: str) -> int:
    if cell not in ("0", "1"):
        raise DataFormatError(f"{table}, line {line}: {label!r} is {cell!r}, neither 0 nor 1")
    return int(cell)


def _found(table: Path, names: Sequence[str]) -> Iterator[Path]:
    """The file of each name: beside the table, or in the folder `images` there."""
    places = [table.parent, table.parent / _IMAGES]
    missing = [name for name in names if not any((place / name).is_file() for place in places)]
    if missing:
        raise DataMissingError(
            f"{table} names {len(missing)} files that are not there: {named(missing)}; they are "
            f"looked for beside it and in {_IMAGES}/"
        )
    for name in names:
        yield next(place / name for place in places if (place / name).is_file())


def _matched(group_by: str | None, names: Sequence[str]) -> tuple[str, ...] | None:
    """The group of each file by the beginning of its name, without its folders."""
    if group_by is None:
        return None
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise OptionError(
            f"--group-by {group_by!r} is neither a column of {LABELS_FILE} nor a regular "
            f"expression: {error}"
        ) from error
    matches = [pattern.match(Path(name).name) for name in names]
    groups = [match.group(1 if pattern.groups else 0) if match else None for match in matches]
    without = [name for name, group in zip(names, groups, strict=True) if not group]
    if without:
        raise OptionError(
            f"--group-by {group_by!r} is no column of {LABELS_FILE}, and does not match the "
            f"beginning of {len(without)} file names: {named(without)}"
        )
    return tuple(group for group in groups if group)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _is_picture(path: Path) -> bool:
    return path.is_file() and _is_shown(path) and path.name != "Thumbs.db"
