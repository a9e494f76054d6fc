"""Read pictures from Parquet files: a column of encoded bytes, and a column of names."""

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
"""Default picture columns; the first that exists and is binary is used. `a.b` is the field `b` of
a struct `a`, as in Hugging Face's data sets."""

NAME_COLUMNS: Final = (
    "file", "file_name", "filename", "path", "image.path", "name", "key", "__key__", "uri", "url",
    "id",
)  # fmt: skip
"""Default name columns; the first that exists and holds text or integers is used."""


BINARY: Final = frozenset({"binary", "large_binary"})
NAMES: Final = frozenset(
    {"string", "large_string", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)
"""Arrow types allowed for name columns."""


class Columns(NamedTuple):
    """The columns of a file to read."""

    image: str
    name: str | None
    """None: a picture's name is the file and the row number."""


def look_into(
    path: Path, name: str, image: str | None, names: str | None
) -> tuple[list[int], Columns]:
    """Return the rows of each row group, and the columns: the requested ones or the defaults.

    Raises:
        ExtraMissingError: pyarrow is not installed.
        SourceError: the file cannot be read, or a column is missing or has another type.
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
    """Yield the pictures of some row groups, a few in memory at a time.

    `first` is the number of their first row. If the file is damaged, the last picture is the file
    itself, as an unreadable picture.

    Raises:
        SourceError: the file does not exist on this machine.
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
    """Yield columns and struct fields, with their types."""
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
    of = f"column {asked!r}" if asked else "default column"
    raise SourceError(f"{file} has no {of} of {what}; name it with {option}; columns: {there}")


def _values(batch: Any, column: str) -> list[Any]:
    outer, _, inner = column.partition(".")
    values = batch.column(outer).to_pylist()
    return [value and value[inner] for value in values] if inner else values
