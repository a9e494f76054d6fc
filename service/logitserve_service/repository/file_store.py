"""The bytes of served model files, in memory that the workers share.

A worker that replaces another one loads the same bytes, even if the folder of models has changed.
"""

import ctypes
import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from logitserve.inference.errors import FileChangedError
from logitserve.inference.model_file import CHUNK_BYTES, Reading, in_memory
from logitserve.inference.model_file import Signature as FileStat

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2  # linux/falloc.h
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

logger = logging.getLogger("logitserve.models")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file and its position."""

    name: str
    version: str
    file: FileStat
    offset: int
    sha256: str

    @property
    def end(self) -> int:
        """The first offset after the file, rounded up to whole pages."""
        return self.offset + -(-self.file.size // _PAGE_BYTES) * _PAGE_BYTES


class FileStore:
    """One in-memory file shared by all forked processes; dropped ranges are punched out."""

    def __init__(self) -> None:
        self._file = os.memfd_create("logitserve-models")
        weakref.finalize(self, os.close, self._file)
        self._fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        self._fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def write(self, content: Reading, offset: int) -> None:
        """Store a file at an unused offset."""
        with content.path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                offset += os.pwrite(self._file, chunk, offset)

    @contextmanager
    def reading(self, kept: StoredFile) -> Iterator[Reading]:
        """Read a stored file; raises FileChangedError if it was dropped meanwhile."""
        offsets = range(kept.offset, kept.offset + kept.file.size, CHUNK_BYTES)
        chunks = (
            os.pread(self._file, min(CHUNK_BYTES, offsets.stop - offset), offset)
            for offset in offsets
        )
        with in_memory(chunks) as content:
            if content.sha256 != kept.sha256:
                raise FileChangedError("it is no longer served")
            yield content

    def drop(self, kept: StoredFile) -> None:
        """Free the memory of a stored file."""
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        if self._fallocate(self._file, mode, kept.offset, kept.end - kept.offset):
            text = "the memory of a model that is no longer served cannot be freed: %s"
            logger.warning(text, os.strerror(ctypes.get_errno()))
