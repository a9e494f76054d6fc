"""Read a model file once; its bytes stay the same even if the file is replaced."""

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
    """File metadata that changes when a file is modified or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Change time of the inode; unlike the modification time, a copy cannot preserve it."""

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """Return the signature of a `stat` result."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """The bytes of a file at one time, released when the block ends."""

    path: Path
    """Path of an in-memory file with these bytes, for onnxruntime."""
    sha256: str


@contextmanager
def in_memory(chunks: Iterable[bytes | memoryview]) -> Iterator[Reading]:
    """Hold bytes in an in-memory file (`memfd_create`) for the duration of the block.

    onnxruntime holds the GIL while it parses bytes, but not while it parses a file;
    `benchmarks/many_models.py --stall` measures how long that blocks the event loop. Nothing is
    written to disk.
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
    """Read a file once, and hold its bytes for the duration of the block.

    A file whose signature is not the expected one is not read.

    Raises:
        FileChangedError: the file was modified or removed while it was read.
        ModelFileError: the file cannot be read.
    """
    return in_memory(_chunks(path, expected))


def _chunks(path: Path, expected: Signature | None) -> Iterator[bytes]:
    try:
        with path.open("rb") as source:
            before = Signature.of(os.fstat(source.fileno()))
            if expected not in {None, before}:
                raise FileChangedError("the file was replaced since it was scanned")
            left = before.size + 1  # bounded, even if the file grows while it is read
            while chunk := source.read(min(CHUNK_BYTES, left)):
                yield chunk
                left -= len(chunk)
            if left != 1 or Signature.of(os.fstat(source.fileno())) != before:
                raise FileChangedError("the file is being written")
    except FileNotFoundError as error:
        raise FileChangedError(f"the file was removed: {error.strerror}") from error
    except OSError as error:
        raise ModelFileError(f"the file cannot be read: {error.strerror}") from error
