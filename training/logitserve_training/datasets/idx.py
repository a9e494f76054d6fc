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
    """The content of a file, unpacked if it is gzipped.

    Raises:
        DataMissingError: it cannot be read.
        DataFormatError: it is gzipped, but damaged or cut short.
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
        raise DataFormatError(f"{path} is damaged or cut short: {error}") from error


def parse(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Unpacked idx bytes → a read-only uint8 array of the shape that the header announces.

    Raises:
        DataFormatError: no idx header, another element type, or fewer or more elements than the
            header announces.
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
            f"{path} is cut short or has too much: its header announces {shape} elements, "
            f"{elements.size} are there"
        )
    return elements.reshape(shape)
