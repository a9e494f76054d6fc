"""One reading of a model file: bytes that were read once, though the file may be replaced."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from logitserve.inference.errors import FileChangedError, ModelFileError

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells, without reading it, that a file is no longer the one it was."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Of the inode; a copy may bring its time of modification along, but not this one."""

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """The signature in what `stat` answered."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """The bytes of a file at one time. They go when the reading ends."""

    path: Path
    """Where onnxruntime finds these bytes; a file in memory."""
    sha256: str


@contextmanager
def in_memory(chunks: Iterable[bytes | memoryview]) -> Iterator[Reading]:
    """Hold bytes as a file in memory (`memfd_create`) for as long as the block lasts.

    onnxruntime keeps Python's lock while it parses bytes, but not while it parses a file;
    `benchmarks/many_models.py --stall` shows for how long that keeps the event loop waiting.
    Nothing is written to a disk.
    """
    descriptor = os.memfd_create("model")
    try:
        digest = hashlib.sha256()
        with open(descriptor, "wb", closefd=False) as target:
            for chunk in chunks:
                digest.update(chunk)
                target.write(chunk)
        yield Reading(Path(f"/proc/self/fd/{descriptor}"), digest.hexdigest())
    finally:
        os.close(descriptor)


def read(path: Path, expected: Signature | None = None) -> AbstractContextManager[Reading]:
    """Read a file once, and hold its bytes for as long as the block lasts.

    A file that is not the expected one is not read.

    Raises:
        FileChangedError: somebody wrote to the file meanwhile, or it has gone.
        ModelFileError: it cannot be read.
    """
    return in_memory(_chunks(path, expected))


def _chunks(path: Path, expected: Signature | None) -> Iterator[bytes]:
    try:
        with path.open("rb") as source:
            before = Signature.of(os.fstat(source.fileno()))
            if expected not in {None, before}:
                raise FileChangedError("the file is not the one that was scanned")
            left = before.size + 1  # a file that grows meanwhile is not read to its end
            while chunk := source.read(min(CHUNK_BYTES, left)):
                yield chunk
                left -= len(chunk)
            if left != 1 or Signature.of(os.fstat(source.fileno())) != before:
                raise FileChangedError("the file is being written")
    except FileNotFoundError as error:
        raise FileChangedError(f"the file has gone: {error.strerror}") from error
    except OSError as error:
        raise ModelFileError(f"the file cannot be read: {error.strerror}") from error
