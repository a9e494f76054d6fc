"""Sources of pictures: files, tar shards and Parquet, cut into independent units."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from logitserve.bulk import parquet_files, tar_shards
from logitserve.errors import SourceError
from logitserve.scoring import Picture, shown

PART_SIZE: Final = 4096
"""Pictures per unit: a lost worker costs little work, and a million pictures make 250 files."""

STDIN: Final = "-"
"""The source name of standard input, which is one picture."""

SHARD_SUFFIXES: Final = (*tar_shards.SUFFIXES, *parquet_files.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Unit:
    """A group of pictures of one source; each unit becomes one part. Can be pickled."""

    base: str
    """The folder that relative names refer to."""
    names: tuple[str, ...]
    """Paths of the picture files or of the files that contain them, relative or absolute."""
    pictures: Callable[[], Iterator[Picture]]
    """Yields the pictures in their order; each is read when the next is requested, or later.

    Raises SourceError if the source does not exist on this machine."""
    count: int | None
    """Number of pictures; None if it is known only after reading, as for a tar file."""
    which: str = ""
    """Selects the pictures inside the file, if not all."""

    def listing(self) -> Iterator[str]:
        """Yield texts that change when the pictures change; the pictures are not read."""
        for name in self.names:
            yield f"{name} {self.which}{_signature(Path(self.base, name))}"


def units(
    names: Iterable[str],
    *,
    part_size: int = PART_SIZE,
    image_column: str | None = None,
    name_column: str | None = None,
) -> list[Unit]:
    """Cut sources into units of `part_size` pictures, in their order.

    The suffix decides the type of a file. A tar file is one unit; a row group belongs to one unit.
    The columns are those of Parquet files; None uses the default names.

    Raises:
        ExtraMissingError: a source is Parquet and pyarrow is not installed.
        SourceError: a Parquet file cannot be read, or a column is missing.
    """
    found: list[Unit] = []
    files: list[str] = []

    def finish_files() -> None:
        found.extend(
            _files(base, tuple(files[start : start + part_size]))
            for start in range(0, len(files), part_size)
        )
        files.clear()

    base = str(Path.cwd())
    for name in names:
        if not name.lower().endswith(SHARD_SUFFIXES):
            files.append(name)
            continue
        finish_files()
        if name.lower().endswith(tar_shards.SUFFIXES):
            read = partial(tar_shards.pictures, Path(base, name), shown(name))
            found.append(Unit(base, (name,), read, None))
        else:
            found += _row_groups(base, name, part_size, image_column, name_column)
    finish_files()
    return found


def _files(base: str, names: tuple[str, ...]) -> Unit:
    """Return a unit of picture files, one picture per file."""
    folders = dict.fromkeys(os.path.dirname(os.path.join(base, name)) for name in names)  # noqa: PTH118, PTH120 - a million
    there = tuple(filter(os.path.isdir, folders))
    return Unit(base, names, partial(_read, base, names, there), len(names))


def _read(base: str, names: Sequence[str], folders: Sequence[str]) -> Iterator[Picture]:
    """Yield the files; `folders` are their folders, which existed when the files were listed."""
    for folder in folders:
        if not os.path.isdir(folder):  # noqa: PTH112
            raise SourceError.not_found(folder)
    for name in names:
        is_stdin = name == STDIN
        yield Picture(
            shown(name), sys.stdin.buffer.read if is_stdin else Path(base, name).read_bytes
        )


def _row_groups(
    base: str, name: str, part_size: int, image_column: str | None, name_column: str | None
) -> Iterator[Unit]:
    """Yield units of adjacent row groups of a Parquet file."""
    path = Path(base, name)
    sizes, columns = parquet_files.look_into(path, name, image_column, name_column)

    def unit() -> Unit:
        read = partial(parquet_files.pictures, path, shown(name), tuple(groups), first, columns)
        which = f"{tuple(groups)} {columns.image} {columns.name} "
        return Unit(base, (name,), read, count, which)

    groups: list[int] = []
    first = count = 0
    for group, size in enumerate(sizes):
        if groups and count + size > part_size:
            yield unit()
            first, count, groups = first + count, 0, []
        groups.append(group)
        count += size
    if groups:
        yield unit()


def _signature(path: Path) -> str:
    """Return size and modification time, or the error if the file does not exist."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"
