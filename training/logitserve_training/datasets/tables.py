"""Read tables of pictures: CSV, TSV, JSON or JSON Lines with one row per picture."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from logitserve.inference.images import PICTURE_SUFFIXES
from logitserve_training.datasets import columns
from logitserve_training.datasets.dataset import Part
from logitserve_training.datasets.listing import SPLITS, Listing, is_shown, joined, named
from logitserve_training.errors import DataFormatError, DataMissingError
from logitserve_training.recipes import FolderOptions

LABELS_FILE: Final = "labels.csv"
_LINES: Final = frozenset({".jsonl", ".ndjson"})
SUFFIXES: Final = frozenset({".csv", ".tsv", ".json", *_LINES})
_IMAGES: Final = "images"
_FILE_COLUMNS: Final = (
    "filename", "file_name", "file", "image", "image_path", "path", "filepath", "filepaths",
    "file_path", "image_name", "img", "img_path", "picture", "photo", "image_id", "id", "name",
)  # fmt: skip
"""Usual names of the file column, most likely first."""
_SPLIT_COLUMNS: Final = frozenset({"split", "set", "subset", "partition", "dataset", "data set"})


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    """Line number and cells of each row."""

    def column(self, index: int) -> list[str]:
        """Return the cells of a column."""
        return [row[index] for _, row in self.rows]


def may_be(path: Path) -> bool:
    """Return whether a file may be a table, by its suffix; JSON must be a list."""
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return file.read(1) == b"["


def read(data: Path, options: FolderOptions) -> Listing | None:
    """Read the table of a folder, or the given table.

    Returns:
        None if no table of the folder names pictures.

    Raises:
        DataMissingError: the table names missing files.
        DataFormatError: the table cannot be read, or there are several.
    """
    folder = data if data.is_dir() else data.parent
    entries = sorted(folder.iterdir()) if data.is_dir() else [data]
    paths = [one for one in entries if one.is_file() and is_shown(one.name) and may_be(one)]
    is_named = data.is_file() or folder / LABELS_FILE in paths
    if folder / LABELS_FILE in paths:
        paths = [folder / LABELS_FILE] if data.is_dir() else paths
    files = _Files(folder)
    found: dict[Path, Listing] = {}
    for path in paths:
        try:
            one = _listing(_cells(path), files, options)
        except DataFormatError:
            if is_named or (len(paths) == 1 and path.suffix.lower() != ".json"):
                raise
        else:
            found |= {} if one is None else {path: one}
    parts = {part: one for path, one in found.items() if (part := SPLITS.get(path.stem.lower()))}
    if len(found) > 1 and "train" in parts:  # competitions also have a sample_submission
        if len(parts) == 1:
            return files.compared(parts["train"])
        names = " and ".join(path.name for path in found if path.stem.lower() in SPLITS)
        layout = f"{parts['train'].layout}, split given by tables {names}"
        return files.compared(joined(folder, parts, layout))
    listings = [files.compared(one) for one in found.values()]
    if not listings and is_named:
        raise DataFormatError(f"{paths[0]} has no column of picture names beside it")
    if len(listings) < 2:
        return listings[0] if listings else None
    raise DataFormatError(
        f"{folder} has several tables that name its pictures ({named([p.name for p in found])}): "
        f"choose one with --data {next(iter(found))}, or rename one to {LABELS_FILE}"
    )


def _listing(table: Table, files: "_Files", options: FolderOptions) -> Listing | None:
    names = [name.lower() for name in table.header]
    at = _file_column(table, files)
    if at is None:
        return None
    paths = _found(table, files, table.column(at))
    group_by = (options.group_by or "").lower()
    group_at = names.index(group_by) if group_by in names[1:] else None
    split_at = next((i for i, name in enumerate(names) if _is_split(name, table.column(i))), None)
    index = {i for i, name in enumerate(names) if not i and name in ("", "unnamed: 0")}  # pandas
    rest = [i for i in range(len(names)) if i not in {at, group_at, split_at, *index}]
    described = columns.read(
        table.path,
        [table.header[i] for i in rest],
        [table.column(i) for i in rest],
        [line for line, _ in table.rows],
        options,
    )
    parts: tuple[Part, ...] | None = None
    split = ""
    if split_at is not None:
        parts = tuple(SPLITS[cell.lower()] for cell in table.column(split_at))
        split = f", split given by its column {table.header[split_at]!r}"
    return Listing(
        tuple(_below(path, files.folder) for path in paths),
        tuple(paths),
        described.labels,
        described.outcomes,
        described.is_exclusive,
        f"the table {table.path.name}, {described.layout}{split}",
        groups=None if group_at is None else tuple(table.column(group_at)),
        parts=parts,
    )


def _below(path: Path, folder: Path) -> str:
    """Return its path relative to the folder, or the full path if it is not below."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _is_split(name: str, cells: Sequence[str]) -> bool:
    return name in _SPLIT_COLUMNS and all(cell.lower() in SPLITS for cell in cells)


class _Files:
    """The pictures below a folder, by their possible names in a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pictures: set[Path] = set()
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURE_SUFFIXES and is_shown(path.name) and path.is_file():
                self._pictures.add(path)
                for name in {path.name, path.stem, path.name.lower(), path.stem.lower()}:
                    self._by_name[name].append(path)

    def compared(self, listing: Listing) -> Listing:
        """Return the listing, with the number of pictures that are not in the table."""
        count = len(self._pictures - set(listing.paths))
        left_out = f"; {count} pictures that are not in it are left out" * bool(count)
        return replace(listing, layout=listing.layout + left_out)

    def find(self, cell: str) -> list[Path]:
        """Return the files that a cell may mean: by path, else by name, else by stem."""
        name = cell.replace("\\", "/").removeprefix("./")
        for place in (self.folder, self.folder / _IMAGES):
            if name and (place / name).is_file():
                return [place / name]
        *parents, last = name.split("/")
        found = self._by_name.get(last) or self._by_name.get(last.lower(), [])
        while parents and len(found) > 1:  # paths of another machine: match the longest suffix
            ending = "/" + "/".join([*parents, last])
            fitting = [path for path in found if f"/{path.as_posix()}".removesuffix(path.suffix)
                       .endswith(ending.removesuffix(path.suffix))]  # fmt: skip
            if fitting:
                return fitting
            parents = parents[1:]
        return found


def _file_column(table: Table, files: _Files) -> int | None:
    """Return the column of pictures: by its name, else by the number of files found."""
    hits = [
        sum(bool(files.find(cell)) for cell in table.column(i)) for i in range(len(table.header))
    ]
    names = [name.lower() for name in table.header]
    known = [names.index(name) for name in _FILE_COLUMNS if name in names]
    best = max(known or range(len(names)), key=lambda i: hits[i])
    if not hits[best] and known and max(hits) > 0:
        best = max(range(len(names)), key=lambda i: hits[i])
    if hits[best] or (known and table.path.name == LABELS_FILE):
        return best
    return None


def _found(table: Table, files: _Files, cells: Sequence[str]) -> list[Path]:
    paths: dict[Path, int] = {}
    missing = []
    for (line, _), cell in zip(table.rows, cells, strict=True):
        found = files.find(cell)
        if not found:
            missing.append(cell)
            continue
        if len(found) > 1:
            both = [_below(path, files.folder) for path in found]
            raise DataFormatError(
                f"{table.path}, line {line}: {cell!r} may be {named(both)}; write the path"
            )
        if found[0] in paths:
            raise DataFormatError(
                f"{table.path}, line {line}: {cell!r} is also in line {paths[found[0]]}"
            )
        paths[found[0]] = line
    if missing:
        raise DataMissingError(
            f"{table.path} names {len(missing)} missing files: {named(missing)}; the search "
            f"covers its folder, {_IMAGES}/ and all folders below"
        )
    return list(paths)


def _cells(path: Path) -> Table:
    try:
        encoded = path.read_bytes()
        is_wide = encoded[:2] in (b"\xff\xfe", b"\xfe\xff")  # "Unicode text" of spreadsheets
        text = encoded.decode("utf-16" if is_wide else "utf-8-sig")
        kind = path.suffix.lower()
        if kind == ".json":
            lines = _of_objects(list(enumerate(json.loads(text), 1)))
        elif kind in _LINES:
            numbered = enumerate(text.splitlines(), 1)
            lines = _of_objects([(n, json.loads(line)) for n, line in numbered if line.strip()])
        else:
            lines = _of_text(text)
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataFormatError(
            f"{path} cannot be read as CSV, JSON or JSON Lines in UTF-8: {error}"
        ) from error
    if not lines:
        raise DataFormatError(
            f"{path}, line 1: the header must have the columns 'filename,' and the labels"
        )
    (_, header), rows = lines[0], lines[1:]
    for line, row in rows:
        if len(row) != len(header):
            raise DataFormatError(
                f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}"
            )
    if Path(header[0]).suffix.lower() in PICTURE_SUFFIXES:
        rows, header = lines, ["filename", *(f"label {i}" for i in range(1, len(header)))]
        header = header if len(header) > 2 else ["filename", "label"]
    if not rows:
        raise DataFormatError(f"{path} has a header and no rows")
    return Table(path, header, rows)


def _of_text(text: str) -> list[tuple[int, list[str]]]:
    """Parse CSV with the most frequent separator of its first line."""
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]


def _of_objects(numbered: list[tuple[int, Any]]) -> list[tuple[int, list[str]]]:
    """Convert one object per row; lists become cells of several labels."""
    if not all(isinstance(one, dict) for _, one in numbered):
        raise ValueError("each row must be an object {…}")
    header = list(dict.fromkeys(str(key) for _, one in numbered for key in one))
    rows = [(line, [_cell(one.get(name)) for name in header]) for line, one in numbered]
    return [(0, header), *rows] if rows else []


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return columns.LISTED + columns.LISTED.join(str(one) for one in value)
    return "" if value is None else str(value).strip()
