"""Interpret the columns of a table of pictures: one class, or any number of labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Head
from logitserve_training.datasets.listing import named, ordered
from logitserve_training.errors import DataFormatError, OptionError
from logitserve_training.recipes import FolderOptions

LISTED: Final = "\x1f"
"""Separator of the labels of a JSON list, also before the first."""
_YES: Final = frozenset({"1", "1.0", "true", "yes", "y", "t"})
_NO: Final = frozenset({"0", "0.0", "-1", "false", "no", "n", "f"})
_CLASS_COLUMNS: Final = frozenset(
    {"label", "labels", "class", "classes", "class_name", "class_id", "label_name", "category"}
    | {"categories", "choice", "target", "targets", "tag", "tags", "species", "breed"}
    | {"diagnosis", "y"}
)
"""Usual names of a column of classes or labels."""
_SEPARATORS: Final = (LISTED, "|", ";", ",")


@dataclass(frozen=True, slots=True)
class Described:
    """The interpretation of the columns."""

    labels: tuple[str, ...]
    outcomes: npt.NDArray[np.int64]
    """`[rows, labels]`, 1 if the label holds."""
    is_exclusive: bool
    layout: str


def read(
    table: Path,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    lines: Sequence[int],
    options: FolderOptions,
) -> Described:
    """Interpret the columns beside the file names, from their names and cells.

    `table` and `lines`, the line numbers of the rows, are for messages.

    Raises:
        DataFormatError: there are no such columns, or they are ambiguous.
    """
    if not header or not all(header) or len(set(header)) < len(header):
        raise DataFormatError(
            f"{table}, line 1: after 'filename' there must be one or more columns, one per "
            f"label; the header is {','.join(header)!r}"
        )
    generic = [i for i, name in enumerate(header) if name.lower() in _CLASS_COLUMNS]
    flags = [i for i, column in enumerate(cells) if all(_flag(cell) is not None for cell in column)]
    if options.class_by is not None:
        if options.class_by not in header:
            raise OptionError(
                f"--class-by {options.class_by}: {table} has no such column; it has "
                f"{', '.join(header)}"
            )
        generic = [header.index(options.class_by)]
    chosen = _of_generic(cells, generic)
    if chosen is None and len(header) == 1 and not flags and not _is_almost_flag(cells[0]):
        chosen = 0
    if chosen is not None and not (len(flags) == len(header) > 1 and options.class_by is None):
        return _of_column(table, header[chosen], cells[chosen], lines, options)
    if not flags and not any(map(_is_almost_flag, cells)):
        raise DataFormatError(
            f"{table} can be read in {len(header)} ways: the classes may be in column "
            f"{' or '.join(map(repr, header))}; choose one with --class-by COLUMN"
        )
    for i in range(len(header)):
        for line, cell in zip(lines, cells[i], strict=True):
            if _flag(cell) is None:
                raise DataFormatError(
                    f"{table}, line {line}: {header[i]!r} is {cell!r}, neither 0 nor 1 (nor yes or "
                    "no, True or False); name a column of classes with --class-by, and one of "
                    "groups (drives, persons …) with --group-by"
                )
    return _of_flags(header, cells, options)


def _flag(cell: str) -> int | None:
    return 1 if cell.lower() in _YES else 0 if cell.lower() in _NO else None


def _is_almost_flag(column: Sequence[str]) -> bool:
    """Return whether most cells are flags, so that the others are mistakes."""
    return sum(_flag(cell) is not None for cell in column) > len(column) / 2


def _of_generic(cells: Sequence[Sequence[str]], generic: Sequence[int]) -> int | None:
    """Return the column of classes; names are preferred to the numbers of the same classes."""
    if len(generic) < 2:
        return generic[0] if generic else None
    kinds = {len(set(cells[i])) for i in generic}
    pairs = set(zip(*(cells[i] for i in generic), strict=True))
    if len(kinds | {len(pairs)}) > 1:
        return None
    return max(generic, key=lambda i: sum(not _is_number(cell) for cell in cells[i]))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?", cell) is not None


def _of_flags(
    header: Sequence[str], cells: Sequence[Sequence[str]], options: FolderOptions
) -> Described:
    outcomes = np.array([[_flag(cell) for cell in column] for column in cells], np.int64).T
    is_one_hot = len(header) > 1 and bool((outcomes.sum(axis=1) == 1).all())
    if is_one_hot and options.head in (Head.SOFTMAX, Head.BINARY):
        return Described(tuple(header), outcomes, True, "a one-hot row per picture")  # noqa: FBT003
    return Described(tuple(header), outcomes, False, "a column per label")  # noqa: FBT003


def _of_column(
    table: Path, name: str, cells: Sequence[str], lines: Sequence[int], options: FolderOptions
) -> Described:
    """Interpret one column: classes, or several labels per cell."""
    for separator in _SEPARATORS:
        if any(separator in cell for cell in cells) and options.head is not Head.SOFTMAX:
            if separator == "," and options.head is None:
                _are_labels(table, name, cells, separator)
            shown = "as lists" if separator == LISTED else f"separated by {separator!r}"
            return _of_tags(cells, separator, f"labels in its column {name!r}, {shown}")
    asked = options.head
    if asked is Head.SIGMOID or (asked is None and _are_labels(table, name, cells, " ")):
        return _of_tags(cells, " ", f"labels in its column {name!r}, separated by spaces")
    for line, cell in zip(lines, cells, strict=True):
        if not cell:
            raise DataFormatError(f"{table}, line {line}: {name!r} is empty; give it a class")
    if all(re.fullmatch(r"-?\d+(\.0+)?", cell) for cell in cells):
        cells = [cell.partition(".")[0] for cell in cells]
    elif all(map(_is_number, cells)):
        raise DataFormatError(
            f"{table}: {name!r} has numbers such as {cells[0]}, which are not classes; choose the "
            "column of classes with --class-by COLUMN"
        )
    labels = ordered(set(cells))
    if 2 * len(labels) > len(cells) > 3:
        raise DataFormatError(
            f"{table}: {name!r} has {len(labels)} classes in {len(cells)} rows "
            f"({named(labels)}), too many to be learned; choose the column of classes with "
            "--class-by COLUMN"
        )
    index = [labels.index(cell) for cell in cells]
    outcomes = np.eye(len(labels), dtype=np.int64)[index]
    return Described(labels, outcomes, True, f"a class per row in column {name!r}")  # noqa: FBT003


def _are_labels(table: Path, name: str, cells: Sequence[str], separator: str) -> bool:
    """Return whether the parts of a cell are labels, rather than one class of several words.

    Raises:
        DataFormatError: the column is ambiguous.
    """
    kinds = {tuple(part.strip() for part in cell.split(separator)) for cell in cells if cell}
    several = [kind for kind in kinds if len(kind) > 1]
    words = {word for kind in kinds for word in kind}
    is_told_apart = len(words) == sum(map(len, kinds))  # each word is in one class only
    if not several or (is_told_apart and separator == " "):
        return False
    alone = {kind[0] for kind in kinds if len(kind) == 1}
    is_few = len(words) < len(kinds) or (len(words) == len(kinds) and bool(words & alone))
    if not is_told_apart and (separator == "," or is_few):
        return True
    between = {" ": "spaces", ",": "commas"}[separator]
    raise DataFormatError(
        f"{table} can be read in two ways: {name!r} has {len(kinds)} classes "
        f"({named(ordered(f'{separator.strip()} '.join(kind) for kind in kinds))}), or "
        f"{len(words)} labels separated by {between} ({named(ordered(words))}); choose with "
        "--head softmax or --head sigmoid"
    )


def _of_tags(cells: Sequence[str], separator: str, layout: str) -> Described:
    tags = [{tag.strip() for tag in cell.split(separator)} - {""} for cell in cells]
    labels = ordered(set().union(*tags))
    rows = [[int(label in one) for label in labels] for one in tags]
    return Described(labels, np.array(rows, np.int64), False, layout)  # noqa: FBT003
