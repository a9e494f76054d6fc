"""Where pictures lie: files, tar shards, Parquet; cut into units that can be scored anywhere."""

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
"""Pictures of a unit: little work is lost with a machine, and a million make 250 files."""

STDIN: Final = "-"
"""Names standard input, one picture."""

SHARD_SUFFIXES: Final = (*tar_shards.SUFFIXES, *parquet_files.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Unit:
    """Some pictures of a source: what a part is made of. Can be pickled."""

    base: str
    """The folder that names are relative to."""
    names: tuple[str, ...]
    """Paths of the files that the pictures are or lie in, relative or absolute."""
    pictures: Callable[[], Iterator[Picture]]
    """The pictures, in their order; each is read before the next is asked for, or later.

    Raises SourceError where this machine does not find the source."""
    count: int | None
    """How many pictures; None where only reading it tells, as of a tar file."""
    which: str = ""
    """Which pictures of the file, where they are not all."""

    def listing(self) -> Iterator[str]:
        """What tells, without reading them, that they are no longer the pictures they were."""
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

    What a file is, its suffix says. A tar file is one unit, a row group belongs to one. The columns
    are those of Parquet files; None finds them by their names.

    Raises:
        ExtraMissingError: Parquet without pyarrow.
        SourceError: a Parquet file cannot be read, or does not have the columns.
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
    """Pictures that are a file each."""
    folders = dict.fromkeys(os.path.dirname(os.path.join(base, name)) for name in names)  # noqa: PTH118, PTH120 - a million
    there = tuple(filter(os.path.isdir, folders))
    return Unit(base, names, partial(_read, base, names, there), len(names))


def _read(base: str, names: Sequence[str], folders: Sequence[str]) -> Iterator[Picture]:
    """The files; `folders` are those of them that were there when the files were listed."""
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
    """The pictures of neighboring row groups of a Parquet file."""
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
    """Size and time of modification; of what is not there, why."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"
