"""Pictures in Parquet files: a column of encoded bytes, and one of names."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from logitserve.errors import SourceError
from logitserve.rows import pyarrow
from logitserve.scoring import CHUNK, Picture, unreadable

SUFFIXES: Final = (".parquet",)

IMAGE_COLUMNS: Final = (
    "image.bytes", "image", "image_bytes", "bytes", "content", "data", "picture", "jpg", "jpeg",
    "png", "webp",
)  # fmt: skip
"""Columns that are taken for pictures, the first that is there and binary; `a.b` is the member `b`
of a struct `a`, as Hugging Face's data sets have it."""

NAME_COLUMNS: Final = (
    "file", "file_name", "filename", "path", "image.path", "name", "key", "__key__", "uri", "url",
    "id",
)  # fmt: skip
"""Columns that are taken for the pictures' names, the first that is there, text or integers."""


BINARY: Final = frozenset({"binary", "large_binary"})
NAMES: Final = frozenset(
    {"string", "large_string", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)
"""Types of such columns."""


class Columns(NamedTuple):
    """Which columns of a file are meant."""

    image: str
    name: str | None
    """None: a picture is called by its file and the number of its row."""


def look_into(
    path: Path, name: str, image: str | None, names: str | None
) -> tuple[list[int], Columns]:
    """Rows of each row group, and the columns: those that were named, or as people call them.

    Raises:
        ExtraMissingError: there is no pyarrow.
        SourceError: it cannot be read, or a column is not there or not of that kind.
    """
    pa, parquet = pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{name} cannot be read as Parquet: {error}") from error
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    types = dict(_columns(schema))
    columns = Columns(
        _found(image, IMAGE_COLUMNS, types, BINARY)
        or _missing(name, "--image-column", "encoded pictures (binary)", image, types),
        _found(names, NAME_COLUMNS, types, NAMES)
        or (names and _missing(name, "--name-column", "names (text or integers)", names, types)),
    )
    return sizes, columns


def pictures(
    path: Path, name: str, groups: Sequence[int], first: int, columns: Columns
) -> Iterator[Picture]:
    """The pictures of some row groups, a few in memory at a time.

    `first` is the number of their first row. Where the file is damaged, its last picture is the
    file itself, which cannot be read.

    Raises:
        SourceError: there is no such file here.
    """
    pa, parquet = pyarrow()
    if not path.exists():
        raise SourceError.not_found(str(path))
    row = first
    wanted = [column for column in columns if column is not None]
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(CHUNK, row_groups=list(groups), columns=wanted):
                contents = _values(batch, columns.image)
                names = (
                    [None] * len(batch) if columns.name is None else _values(batch, columns.name)
                )
                for called, content in zip(names, contents, strict=True):
                    shown = f"{name}/{row}" if called is None else str(called)
                    row += 1
                    if content is None:
                        yield unreadable(shown, "the row has no picture")
                    else:
                        yield Picture(shown, partial(bytes, content))
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise SourceError(f"{name} cannot be read: {error.strerror}") from error
        yield unreadable(name, f"the Parquet file is damaged from row {row} on: {error}")


def _columns(schema: Any) -> Iterator[tuple[str, Any]]:
    """Columns and members of structs, with their types."""
    for field in schema:
        yield field.name, field.type
        if hasattr(field.type, "fields"):
            yield from ((f"{field.name}.{inner.name}", inner.type) for inner in field.type.fields)


def _found(
    asked: str | None, usual: Sequence[str], types: dict[str, Any], kinds: Collection[str]
) -> str | None:
    wanted = usual if asked is None else (asked,)
    return next((name for name in wanted if str(types.get(name)) in kinds), None)


def _missing(
    file: str, option: str, what: str, asked: str | None, types: dict[str, Any]
) -> NoReturn:
    there = ", ".join(f"{name} ({kind})" for name, kind in types.items())
    of = f"column {asked!r}" if asked else "column that is known to be one"
    raise SourceError(f"{file} has no {of} of {what}; name it with {option}; there is {there}")


def _values(batch: Any, column: str) -> list[Any]:
    outer, _, inner = column.partition(".")
    values = batch.column(outer).to_pylist()
    return [value and value[inner] for value in values] if inner else values
