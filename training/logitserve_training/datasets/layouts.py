"""Recognize the layout of a folder of pictures: each recognizer maps a folder to a listing.

An ambiguous folder is refused; the message has both readings and the option that decides.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from logitserve.inference.images import PICTURE_SUFFIXES
from logitserve_training.datasets import tables
from logitserve_training.datasets.dataset import Part
from logitserve_training.datasets.listing import (
    SPLITS,
    Listing,
    is_shown,
    joined,
    matched,
    named,
    of_classes,
    ordered,
)
from logitserve_training.errors import DataFormatError, DataMissingError
from logitserve_training.recipes import FolderOptions

FIRST: Final = "first"
LAST: Final = "last"
_BEFORE_NUMBER: Final = re.compile(r"(?P<label>[^\W\d_].*?)[ ._-]*\(?\d+\)?")
_AFTER_NUMBER: Final = re.compile(r"\d+[ ._-]+(?P<label>[^\W\d_]\D*)")
_CAMERA: Final = frozenset(
    {"img", "dsc", "dscn", "dscf", "image", "photo", "pic", "picture", "frame", "scan", "file"}
    | {"screenshot", "untitled", "pxl", "mvi", "vid"}
)
"""Usual file names of cameras and programs, which are not classes."""
_LEAST_OF_NAME: Final = 2
"""Minimum mean number of pictures per class for classes in file names."""


def read(data: Path, options: FolderOptions) -> Listing:
    """Read a folder in any layout of `RECOGNIZERS`, or a table of pictures.

    Raises:
        DataMissingError: the folder or files that it names do not exist.
        DataFormatError: the layout is unknown or ambiguous.
        OptionError: an option does not fit the folder.
    """
    if not data.exists():
        raise DataMissingError(f"{data} is not a folder; give the folder of pictures with --data")
    if data.is_file() and not tables.may_be(data):
        raise DataFormatError(
            f"{data} is neither a folder nor a table (CSV, TSV, JSON Lines, or JSON that is a list "
            "of objects); extract an archive, save a spreadsheet as CSV"
        )
    folder = _unwrapped(data)
    found = _recognized(folder, options) if folder.is_dir() else tables.read(folder, options)
    if found is None:
        raise DataFormatError(_unknown(data))
    if len(found.labels) < 2 and found.is_exclusive:
        raise DataFormatError(
            f"{data} is read as {found.layout}, and all of its pictures have one class "
            f"({found.labels[0]}): a classifier needs at least two classes"
        )
    if options.group_by is not None and found.groups is None:
        found = replace(found, groups=matched("--group-by", options.group_by, found.names))
    return found


def _unwrapped(data: Path) -> Path:
    """Return the folder without outer folders that contain nothing else."""
    while data.is_dir():
        shown = [entry for entry in data.iterdir() if is_shown(entry.name)]
        inside = [one for one in shown if one.is_dir() and any(map(_is_picture, one.rglob("*")))]
        if len(inside) != 1 or any(map(_is_content, shown)):
            break
        data = inside[0]
    return data


def _is_content(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() in PICTURE_SUFFIXES or tables.may_be(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and is_shown(entry.name))


def _pictures(folder: Path) -> list[Path]:
    """Return all files below a folder; decoding finds those that are not pictures."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if all(map(is_shown, path.relative_to(folder).parts))]


def _recognized(folder: Path, options: FolderOptions) -> Listing | None:
    """Return the unique reading of a folder, or None.

    Raises:
        DataFormatError: there are two different readings.
    """
    readings = [found for one in RECOGNIZERS if (found := one(folder, options)) is not None]
    if len(readings) < 2:
        return readings[0] if readings else _of_names(folder, options)
    table, folders = readings[:2]
    if (folder / tables.LABELS_FILE).is_file() or _agree(table, folders):
        return table
    raise DataFormatError(
        f"{folder} can be read in two ways: as {table.layout} ({named(table.labels)}), or as "
        f"{folders.layout} ({named(folders.labels)}); for the table give --data "
        f"{folder}/<table>, for the folders --class-by {FIRST}"
    )


def _agree(one: Listing, other: Listing) -> bool:
    """Return whether both listings have the same labels for the same files."""
    if one.labels != other.labels or set(one.paths) != set(other.paths):
        return False
    row_of = {path: row for row, path in enumerate(other.paths)}
    rows = np.array([row_of[path] for path in one.paths])
    return bool((one.outcomes == other.outcomes[rows]).all())


def _of_table(folder: Path, options: FolderOptions) -> Listing | None:
    """Read a CSV, TSV, JSON or JSON Lines file with one row per picture."""
    if options.class_by in (FIRST, LAST):
        return None
    return tables.read(folder, options)


def _of_splits(folder: Path, options: FolderOptions) -> Listing | None:
    """Read `train/`, `val/` and `test/`, each in one of the other layouts."""
    inside = {entry: _part(entry) for entry in _folders(folder)}
    given = {part: entry for entry, part in inside.items() if part is not None}
    others = [entry for entry, part in inside.items() if given.get(part or "test") != entry]
    if "train" not in given or len(given) < 2 or any(map(_pictures, others)):
        return None
    found = {
        part: _recognized(entry, options) or _class_folders(entry, options, least=1)
        for part, entry in given.items()
    }
    read_parts = {part: one for part, one in found.items() if one is not None}
    train = read_parts.get("train")
    if train is None:
        return None
    unlabeled = [f"{given[part].name}/" for part in given if part not in read_parts]
    left_out = f"; {', '.join(unlabeled)} has no classes and is left out" if unlabeled else ""
    split = " and ".join(f"{given[part].name}/" for part in read_parts)
    below = {
        part: replace(one, names=tuple(f"{given[part].name}/{name}" for name in one.names))
        for part, one in read_parts.items()
    }
    return joined(folder, below, f"{train.layout}, split given by folders {split}{left_out}")


def _part(folder: Path) -> Part | None:
    """Return the part that the folder's name means: `val`, `Training`, `test1`."""
    return SPLITS.get(folder.name.lower().rstrip("0123456789_-"))


def _class_folders(folder: Path, options: FolderOptions, *, least: int) -> Listing | None:
    """Read `<class>/<picture>` with at least `least` classes, and folders in between or outside."""
    tops = {entry: _pictures(entry) for entry in _folders(folder)}
    filled = [entry.name for entry, found in tops.items() if any(map(_is_picture, found))]
    filled = filled or [entry.name for entry, found in tops.items() if found]  # without endings
    tops = {entry: found for entry, found in tops.items() if entry.name in filled or not found}
    paths = [path for found in tops.values() for path in found]
    if len(filled) < least or all(_part(entry) for entry, found in tops.items() if found):
        return None
    if options.class_by not in (None, FIRST, LAST):
        return None
    empty = [entry.name for entry, found in tops.items() if not found]
    left_out = f"; {named(empty)} has no pictures and is left out" if empty else ""
    firsts = [path.relative_to(folder).parts[0] for path in paths]
    lasts = [path.parent.name for path in paths]
    level = options.class_by if options.class_by in (FIRST, LAST) else None
    if level is None:
        level = _level(folder, paths, firsts, lasts)
    classes = lasts if level == LAST else firsts
    which = "one folder per class" if firsts == lasts else f"class folders of the {level} level"
    return of_classes(folder, paths, classes, which + left_out)


def _level(folder: Path, paths: Sequence[Path], firsts: Sequence[str], lasts: Sequence[str]) -> str:
    """Return which folders are the classes: the first below `folder`, or the last in the paths."""
    pairs = set(zip(firsts, lasts, strict=True))
    counts = len(set(firsts)), len(set(lasts))
    is_mixed = any(len(path.relative_to(folder).parts) == 2 for path in paths)
    if is_mixed or counts[1] == 1 or len(pairs) == counts[0] == counts[1]:
        return FIRST
    if all(re.fullmatch(r"[\d_.-]+", name) for name in lasts):
        return FIRST
    if all(re.fullmatch(r"[\d_.-]+", name) for name in firsts):
        return LAST
    raise DataFormatError(
        f"{folder} can be read in two ways: {counts[0]} classes by its own folders "
        f"({named(ordered(set(firsts)))}), or {counts[1]} by the folders that hold the pictures "
        f"({named(ordered(set(lasts)))}); give --class-by {FIRST} or --class-by {LAST}"
    )


def _of_names(folder: Path, options: FolderOptions) -> Listing | None:
    """Read `cat.1.jpg`, `dog (2).png`, `003_cat.jpg`: the class is in each file name."""
    paths = sorted(path for path in folder.iterdir() if _is_content(path) and is_shown(path.name))
    paths = [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]
    if not paths:
        return None
    layout = "the class in the name of each file"
    if options.class_by not in (None, FIRST, LAST):
        by_pattern = matched("--class-by", options.class_by, [path.name for path in paths])
        return of_classes(folder, paths, by_pattern, f"{layout}, by --class-by")
    for pattern in (_BEFORE_NUMBER, _AFTER_NUMBER):
        matches = [pattern.fullmatch(path.stem) for path in paths]
        classes = [match["label"] for match in matches if match]
        kinds = set(classes)
        if len(classes) < len(paths) or len(kinds) < 2 or len(paths) < _LEAST_OF_NAME * len(kinds):
            continue
        if {kind.lower() for kind in kinds} <= _CAMERA:
            continue
        _require_one_reading(folder, classes)
        return of_classes(folder, paths, classes, layout)
    return None


def _require_one_reading(folder: Path, classes: Sequence[str]) -> None:
    """Refuse ambiguous names: `cat_black`, `cat_white`, `dog_black` may be three classes or two."""
    words = [re.split(r"[ ._-]+", label)[0] for label in classes]
    if len(set(words)) in (1, len(set(classes))):
        return
    raise DataFormatError(
        f"the names of {folder} can be read in two ways: {len(set(classes))} classes "
        f"({named(ordered(set(classes)))}), or {len(set(words))} by the first word "
        f"({named(ordered(set(words)))}); choose with a regular expression for the beginning of "
        "the names: --class-by '([^0-9]+)[ ._-]' or --class-by '[^ ._-]+'"
    )


Recognizer = Callable[[Path, FolderOptions], Listing | None]

RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    _of_table,
    _of_splits,
    partial(_class_folders, least=2),
)
"""Recognizers; a table and one other may both match, `_of_names` is used if none matches."""


def _unknown(data: Path) -> str:
    """Return one line that describes a folder without a known layout."""
    if data.is_file():
        return f"{data} is not a table with a column of picture names beside it"
    folders = [entry.name for entry in _folders(data)]
    files_here = (path for path in data.iterdir() if path.is_file())
    endings = Counter(path.suffix.lower() or path.name for path in files_here)
    files = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    return (
        f"{data} has neither {tables.LABELS_FILE} nor two or more folders, one for each class, nor "
        f"file names that begin with a class (cat_1.jpg); it has "
        f"{named(folders) or 'no folder at all'}{' and ' * bool(files)}{files}; docs/folder.md "
        "shows the layouts, and --class-by gives the position of the class"
    )
