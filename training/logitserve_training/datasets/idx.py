"""The idx file format of the MNIST files, plain or gzipped.

Two zero bytes, a byte for the element type (8: unsigned byte), a byte for the number of
dimensions, each dimension as a big-endian 32-bit integer, then the elements (described on
LeCun's MNIST page).
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from logitserve_training.errors import DataFormatError, DataMissingError

_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzipped.

    Raises:
        DataMissingError: the file cannot be read.
        DataFormatError: the gzip data is damaged or truncated.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataMissingError(f"{path} cannot be read: {error.strerror}") from error
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(f"{path} is damaged or truncated: {error}") from error


def parse(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Parse idx bytes into a read-only uint8 array of the shape in the header.

    Raises:
        DataFormatError: no idx header, another element type, or a wrong number of elements.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DataFormatError(
            f"{path} is not an idx file of unsigned bytes: it begins with {content[:4].hex(' ')}"
        )
    header = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:header], dtype=">u4").tolist())
    elements = np.frombuffer(content, dtype=np.uint8, offset=min(header, len(content)))
    if len(shape) != content[3] or elements.size != np.prod(shape, dtype=object):
        raise DataFormatError(
            f"{path} has the wrong size: its header says {shape} elements, "
            f"but there are {elements.size}"
        )
    return elements.reshape(shape)
