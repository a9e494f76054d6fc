"""Writes idx files, gzipped by their name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt


def to_idx(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    content = to_idx(array)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
