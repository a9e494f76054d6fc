"""The folder that parts are written into, once each, by one process at a time.

    scores/
    ├── _logitserve.json       which model, which pictures, how many parts
    ├── part-00000.parquet     appears when it is whole
    └── _SUCCESS               appears when all parts are there

Readers of Parquet folders pass over names that begin with an underscore or a dot.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from logitserve.bulk.scorer import Part
from logitserve.errors import OutputError
from logitserve.rows import pyarrow

MANIFEST: Final = "_logitserve.json"
SUCCESS: Final = "_SUCCESS"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the parts of a folder have in common. A run with another one does not mix with them."""

    model: str
    version: str
    sha256: str
    """Of the model file."""
    top_k: int | None
    part_size: int
    parts: int
    sources: str
    """SHA-256 over the listing of all pictures: names, sizes and times of modification."""
    format: int = FORMAT


class PartFolder:
    """A folder of parts, held by this process."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest

    @classmethod
    @contextmanager
    def opened(cls, path: Path, manifest: Manifest) -> Iterator["PartFolder"]:
        """Make the folder, or go on with it.

        Raises:
            OutputError: it cannot be written, somebody else writes to it, or what lies in it is
                not the beginning of this.
        """
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _writing(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder = cls(path, manifest)
                folder._begin()
            yield folder
        finally:
            os.close(descriptor)

    def done(self) -> dict[int, tuple[int, int]]:
        """Number of each part that is there → its rows, and those of them that are errors.

        Raises:
            ExtraMissingError: there is no pyarrow.
            OutputError: a part cannot be read.
        """
        found = {}
        for number in range(self._manifest.parts):
            path = self._part(number)
            if path.exists():
                found[number] = _counted(path)
        return found

    def save(self, number: int, part: Part) -> None:
        """Write a part, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(self._part(number), part.data)

    def finish(self) -> None:
        """Say that all parts are there."""
        self._write(self._path / SUCCESS, b"")

    def _part(self, number: int) -> Path:
        return self._path / f"part-{number:05d}.parquet"

    def _begin(self) -> None:
        path = self._path / MANIFEST
        for draft in self._path.glob(".*.draft"):  # of a run that was killed: we hold the lock
            draft.unlink()
        if path.exists():
            self._check(path)
        elif any(self._path.iterdir()):
            raise OutputError(
                f"{self._path} has something in it, but no {MANIFEST} that says what; "
                "write to another folder"
            )
        else:
            self._write(path, json.dumps(asdict(self._manifest), indent=2).encode() + b"\n")

    def _check(self, path: Path) -> None:
        try:
            there: dict[str, Any] = dict(json.loads(path.read_bytes()))
        except ValueError as error:
            raise OutputError(f"{path} is not what this command writes: {error}") from error
        wanted = asdict(self._manifest)
        other = [key for key in wanted if there.get(key) != wanted[key]]
        if other:
            said = ", ".join(f"{key} {_short(there.get(key))}" for key in other)
            now = ", ".join(f"{key} {_short(wanted[key])}" for key in other)
            hint = "; the pictures have changed or are others" if other == ["sources"] else ""
            raise OutputError(
                f"{self._path} was begun with {said}, and this run has {now}{hint}: "
                "write to another folder, or run it as it was begun"
            )

    def _write(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}.draft")
        with _writing(path):
            try:
                with draft.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise OutputError(f"another run is writing to {path}; wait for it") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _counted(path: Path) -> tuple[int, int]:
    pa, parquet = pyarrow()
    try:
        errors = parquet.ParquetFile(path).read(columns=["error"])["error"]
    except pa.ArrowException as error:
        raise OutputError(f"{path} cannot be read: {error}; remove it, and run again") from error
    return len(errors), len(errors) - errors.null_count
