"""Tables of pictures: CSV, TSV, JSON or JSON Lines with a row a picture, as people write them."""

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
"""What people call the column with the files, the likeliest first."""
_SPLIT_COLUMNS: Final = frozenset({"split", "set", "subset", "partition", "dataset", "data set"})


@dataclass(frozen=True, slots=True)
class Table:
    """A header and its rows."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    """Each with the number of its line."""

    def column(self, index: int) -> list[str]:
        """Its cells."""
        return [row[index] for _, row in self.rows]


def may_be(path: Path) -> bool:
    """Whether a file may be a table, by its ending; of JSON, a list."""
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return file.read(1) == b"["


def read(data: Path, options: FolderOptions) -> Listing | None:
    """Read the table of a folder, or the one that is named.

    Returns:
        None where no table of the folder names pictures.

    Raises:
        DataMissingError: it names files that are not there.
        DataFormatError: it cannot be read, or there are several.
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
    if len(found) > 1 and "train" in parts:  # beside them, competitions have a sample_submission
        if len(parts) == 1:
            return files.compared(parts["train"])
        names = " and ".join(path.name for path in found if path.stem.lower() in SPLITS)
        layout = f"{parts['train'].layout}, split given by tables {names}"
        return files.compared(joined(folder, parts, layout))
    listings = [files.compared(one) for one in found.values()]
    if not listings and is_named:
        raise DataFormatError(f"{paths[0]} has no column that names pictures beside it")
    if len(listings) < 2:
        return listings[0] if listings else None
    raise DataFormatError(
        f"{folder} has several tables that name its pictures ({named([p.name for p in found])}): "
        f"say which with --data {next(iter(found))}, or name one {LABELS_FILE}"
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
    index = {i for i, name in enumerate(names) if not i and name in ("", "unnamed: 0")}  # pandas'
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
    """Its name below the folder; all of it, where it is not below."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _is_split(name: str, cells: Sequence[str]) -> bool:
    return name in _SPLIT_COLUMNS and all(cell.lower() in SPLITS for cell in cells)


class _Files:
    """The pictures below a folder, by what a table may call them."""

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
        """The listing, which says how many pictures it leaves out."""
        count = len(self._pictures - set(listing.paths))
        left_out = f"; {count} pictures that it does not name are left out" * bool(count)
        return replace(listing, layout=listing.layout + left_out)

    def find(self, cell: str) -> list[Path]:
        """The files that a cell may mean: by path, else by name, else by name without ending."""
        name = cell.replace("\\", "/").removeprefix("./")
        for place in (self.folder, self.folder / _IMAGES):
            if name and (place / name).is_file():
                return [place / name]
        *parents, last = name.split("/")
        found = self._by_name.get(last) or self._by_name.get(last.lower(), [])
        while parents and len(found) > 1:  # paths of another machine: the longest end that fits
            ending = "/" + "/".join([*parents, last])
            fitting = [path for path in found if f"/{path.as_posix()}".removesuffix(path.suffix)
                       .endswith(ending.removesuffix(path.suffix))]  # fmt: skip
            if fitting:
                return fitting
            parents = parents[1:]
        return found


def _file_column(table: Table, files: _Files) -> int | None:
    """The column whose cells are pictures: by its name, else by how many are found."""
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
                f"{table.path}, line {line}: {cell!r} may be {named(both)}; write which"
            )
        if found[0] in paths:
            raise DataFormatError(
                f"{table.path}, line {line}: {cell!r} stands in line {paths[found[0]]} already"
            )
        paths[found[0]] = line
    if missing:
        raise DataMissingError(
            f"{table.path} names {len(missing)} files that are not there: {named(missing)}; they "
            f"are looked for beside it, in {_IMAGES}/ and in all folders below"
        )
    return list(paths)


def _cells(path: Path) -> Table:
    try:
        encoded = path.read_bytes()
        is_wide = encoded[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets write Unicode text
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
            f"{path}, line 1: it must name the columns, 'filename,' and the labels"
        )
    (_, header), rows = lines[0], lines[1:]
    for line, row in rows:
        if len(row) != len(header):
            raise DataFormatError(
                f"{path}, line {line}: {len(row)} cells where the first line has {len(header)}"
            )
    if Path(header[0]).suffix.lower() in PICTURE_SUFFIXES:
        rows, header = lines, ["filename", *(f"label {i}" for i in range(1, len(header)))]
        header = header if len(header) > 2 else ["filename", "label"]
    if not rows:
        raise DataFormatError(f"{path} has a first line and nothing below it")
    return Table(path, header, rows)


def _of_text(text: str) -> list[tuple[int, list[str]]]:
    """CSV by the separator that its first line has most of."""
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]


def _of_objects(numbered: list[tuple[int, Any]]) -> list[tuple[int, list[str]]]:
    """An object a row; lists become cells of several labels."""
    if not all(isinstance(one, dict) for _, one in numbered):
        raise ValueError("each row must be an object {…}")
    header = list(dict.fromkeys(str(key) for _, one in numbered for key in one))
    rows = [(line, [_cell(one.get(name)) for name in header]) for line, one in numbered]
    return [(0, header), *rows] if rows else []


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return columns.LISTED + columns.LISTED.join(str(one) for one in value)
    return "" if value is None else str(value).strip()
