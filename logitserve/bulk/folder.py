"""Output folder of part files; each is written once, by one process at a time.

    scores/
    ├── _logitserve.json       model, pictures and number of parts
    ├── part-00000.parquet     renamed into place when it is complete
    └── _SUCCESS               written when all parts exist

Readers of Parquet folders ignore names that begin with an underscore or a dot.
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
    """Properties shared by all parts of a folder. A run with different ones is refused."""

    model: str
    version: str
    sha256: str
    """SHA-256 of the model file."""
    top_k: int | None
    part_size: int
    parts: int
    sources: str
    """SHA-256 of the listing of all pictures: names, sizes and modification times."""
    format: int = FORMAT


class PartFolder:
    """A folder of parts, locked by this process."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest

    @classmethod
    @contextmanager
    def opened(cls, path: Path, manifest: Manifest) -> Iterator["PartFolder"]:
        """Create the folder, or resume the run in it.

        Raises:
            OutputError: the folder cannot be written, another process holds the lock, or its
                contents belong to a different run.
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
        """Return part number → (rows, rows with an error) of each existing part.

        Raises:
            ExtraMissingError: pyarrow is not installed.
            OutputError: a part cannot be read.
        """
        found = {}
        for number in range(self._manifest.parts):
            path = self._part(number)
            if path.exists():
                found[number] = _counted(path)
        return found

    def save(self, number: int, part: Part) -> None:
        """Write a part atomically.

        Raises:
            OutputError: the part cannot be written.
        """
        self._write(self._part(number), part.data)

    def finish(self) -> None:
        """Write the marker file: all parts exist."""
        self._write(self._path / SUCCESS, b"")

    def _part(self, number: int) -> Path:
        return self._path / f"part-{number:05d}.parquet"

    def _begin(self) -> None:
        path = self._path / MANIFEST
        for draft in self._path.glob(".*.draft"):  # of a killed run: this process holds the lock
            draft.unlink()
        if path.exists():
            self._check(path)
        elif any(self._path.iterdir()):
            raise OutputError(
                f"{self._path} is not empty and has no {MANIFEST}; write to another folder"
            )
        else:
            self._write(path, json.dumps(asdict(self._manifest), indent=2).encode() + b"\n")

    def _check(self, path: Path) -> None:
        try:
            there: dict[str, Any] = dict(json.loads(path.read_bytes()))
        except ValueError as error:
            raise OutputError(f"{path} is not a manifest of this command: {error}") from error
        wanted = asdict(self._manifest)
        other = [key for key in wanted if there.get(key) != wanted[key]]
        if other:
            said = ", ".join(f"{key} {_short(there.get(key))}" for key in other)
            now = ", ".join(f"{key} {_short(wanted[key])}" for key in other)
            hint = "; the pictures have changed" if other == ["sources"] else ""
            raise OutputError(
                f"{self._path} was begun with {said}, and this run has {now}{hint}: "
                "write to another folder, or repeat the original command"
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
