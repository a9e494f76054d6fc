"""Where pictures lie: files, tar shards, Parquet; cut into units that can be scored anywhere."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from logitserve.bulk import parquet_files, tar_shards
from logitserve.bulk.parquet_files import Columns
from logitserve.errors import SourceError
from logitserve.scoring import Picture, shown

PART_SIZE: Final = 4096
"""Pictures of a unit: little work is lost with a machine, and a million make 250 files."""

SHARD_SUFFIXES: Final = (*tar_shards.SUFFIXES, *parquet_files.SUFFIXES)


class Unit(Protocol):
    """Some pictures of a source: what a part is made of. Can be pickled."""

    @property
    def count(self) -> int | None:
        """How many pictures; None where only reading it tells."""

    def pictures(self) -> Iterator[Picture]:
        """The pictures, in their order; each is read before the next is asked for, or later.

        Raises:
            SourceError: this machine does not find the source.
        """

    def listing(self) -> Iterator[str]:
        """What tells, without reading them, that they are no longer the pictures they were."""


@dataclass(frozen=True, slots=True)
class Files:
    """Pictures that are a file each."""

    base: str
    """The folder that names are relative to."""
    names: tuple[str, ...]
    folders: tuple[str, ...]
    """Those of the files, as far as they were there when the files were listed."""

    @classmethod
    def of(cls, names: Sequence[str]) -> "Files":
        """Files by their paths, relative to the working folder or absolute."""
        base = str(Path.cwd())
        folders = dict.fromkeys(os.path.dirname(os.path.join(base, name)) for name in names)  # noqa: PTH118, PTH120 - a million
        return cls(base, tuple(names), tuple(filter(os.path.isdir, folders)))

    @property
    def count(self) -> int:
        """As many as there are names."""
        return len(self.names)

    def pictures(self) -> Iterator[Picture]:
        """See `Unit`."""
        for folder in self.folders:
            if not os.path.isdir(folder):  # noqa: PTH112
                raise SourceError.not_found(folder)
        for name in self.names:
            yield Picture(shown(name), Path(self.base, name).read_bytes)

    def listing(self) -> Iterator[str]:
        """See `Unit`."""
        for name in self.names:
            yield f"{name} {_signature(Path(self.base, name))}"


@dataclass(frozen=True, slots=True)
class TarShard:
    """The pictures of a tar file; they are as many as are met."""

    base: str
    name: str

    @property
    def count(self) -> None:
        """Only reading it tells."""

    def pictures(self) -> Iterator[Picture]:
        """See `Unit`."""
        return tar_shards.pictures(Path(self.base, self.name), shown(self.name))

    def listing(self) -> Iterator[str]:
        """See `Unit`."""
        yield f"{self.name} {_signature(Path(self.base, self.name))}"


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The pictures of some neighboring row groups of a Parquet file."""

    base: str
    name: str
    groups: tuple[int, ...]
    first: int
    """Number of the first row, counted from 0 over the file."""
    count: int
    columns: Columns

    def pictures(self) -> Iterator[Picture]:
        """See `Unit`."""
        path = Path(self.base, self.name)
        return parquet_files.pictures(path, shown(self.name), self.groups, self.first, self.columns)

    def listing(self) -> Iterator[str]:
        """See `Unit`."""
        columns = f"{self.columns.image} {self.columns.name}"
        yield f"{self.name} {self.groups} {columns} {_signature(Path(self.base, self.name))}"


def units(
    names: Iterable[str],
    *,
    part_size: int = PART_SIZE,
    image_column: str | None = None,
    name_column: str | None = None,
) -> list[Unit]:
    """Cut sources into units, in their order.

    Args:
        names: paths of pictures and of shards; what a file is, its suffix says.
        part_size: pictures of a unit. A tar file is one unit, a row group belongs to one.
        image_column: of Parquet files, that of encoded pictures; None to find it by its name.
        name_column: likewise that of the pictures' names.

    Raises:
        ExtraMissingError: Parquet without pyarrow.
        SourceError: a Parquet file cannot be read, or does not have the columns.
    """
    found: list[Unit] = []
    files: list[str] = []

    def finish_files() -> None:
        found.extend(
            Files.of(files[start : start + part_size]) for start in range(0, len(files), part_size)
        )
        files.clear()

    base = str(Path.cwd())
    for name in names:
        if not name.lower().endswith(SHARD_SUFFIXES):
            files.append(name)
            continue
        finish_files()
        if name.lower().endswith(tar_shards.SUFFIXES):
            found.append(TarShard(base, name))
        else:
            found += _row_groups(base, name, part_size, image_column, name_column)
    finish_files()
    return found


def _row_groups(
    base: str, name: str, part_size: int, image_column: str | None, name_column: str | None
) -> Iterator[RowGroups]:
    sizes, columns = parquet_files.look_into(Path(base, name), name, image_column, name_column)
    groups: list[int] = []
    first = count = 0
    for group, size in enumerate(sizes):
        if groups and count + size > part_size:
            yield RowGroups(base, name, tuple(groups), first, count, columns)
            first, count, groups = first + count, 0, []
        groups.append(group)
        count += size
    if groups:
        yield RowGroups(base, name, tuple(groups), first, count, columns)


def _signature(path: Path) -> str:
    """Size and time of modification; of what is not there, why."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{status.st_size} {status.st_mtime_ns}"
