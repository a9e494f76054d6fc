"""PNG files chunk by chunk, for what no encoder would write."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def chunk(name: bytes, content: bytes = b"", *, crc: int | None = None) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", crc or zlib.crc32(body))


def header(width: int = 4, height: int = 3, depth: int = 8, color: int = 0, last: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, last))


def rows(picture: npt.NDArray[np.uint8] = PICTURE) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in picture)


PIXELS = chunk(b"IDAT", zlib.compress(rows()))
END = chunk(b"IEND")


def file(*between: bytes, head: bytes | None = None) -> bytes:
    """`PICTURE`, or what the chunks between header and end say."""
    return b"".join([SIGNATURE, head or header(), *(between or [PIXELS]), END])
