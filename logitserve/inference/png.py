"""Read the header of PNG files; `png_samples` decodes their pixels.

Sections refer to the PNG specification (third edition, https://www.w3.org/TR/png-3/).
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

from logitserve.inference.errors import UnreadableImageError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 65_536
"""Limit of the number of chunks; each takes one loop iteration, and encoders write some kB each."""

_HEADER: Final = struct.Struct(">I4sIIBBBBBI")
"""Length, name, width, height, bit depth, color type, three methods, CRC (11.2.1)."""
HEADER_END: Final = len(SIGNATURE) + _HEADER.size
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
SAMPLES: Final = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
"""Color type → samples per pixel."""
_DEPTHS: Final = {_GRAY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
"""Color type → possible bits per sample (11.2.1); of the others 8 and 16."""
PART: Final = 2**20
"""Bytes decompressed at a time."""
_UNPACKED_BYTES: Final = 3
"""Bytes per pixel while several samples in a byte are taken apart."""
_TRANSPARENT_BYTES: Final = 12
"""Bytes per pixel while a palette or tRNS is applied."""


class Header(NamedTuple):
    """The IHDR chunk of a PNG."""

    width: int
    height: int
    bit_depth: int
    color_type: int
    interlace: int

    @property
    def has_alpha(self) -> bool:
        """Whether the color type has an alpha channel."""
        return self.color_type in (_GRAY_ALPHA, _RGBA)

    @property
    def has_palette(self) -> bool:
        """Whether pixels are palette indices."""
        return self.color_type == _PALETTE


def header(data: bytes) -> Header:
    """Read the header of a file that begins with the PNG signature."""
    return _header(data[len(SIGNATURE) : HEADER_END])


def memory(data: bytes, max_pixels: int) -> int:
    """Return the maximum memory for decoding in bytes, from the chunks before IDAT."""
    width, height, bit_depth, color_type, interlace = header(data)
    samples = SAMPLES[color_type]
    each = max(bit_depth // 8, 1) * samples  # the rows
    if bit_depth > 8 or interlace:
        each += samples
    if bit_depth < 8:
        each += _UNPACKED_BYTES
    if color_type == _PALETTE or b"tRNS" in data[: data.find(b"IDAT")]:
        each += _TRANSPARENT_BYTES
    return width * height * each + 4 * PART if width * height <= max_pixels else 0


@lru_cache(maxsize=64)  # most images have the same header
def _header(chunk: bytes) -> Header:
    if len(chunk) == _HEADER.size:
        length, name, *values, checksum = _HEADER.unpack(chunk)
        if (length, name) == (13, b"IHDR"):
            if crc32(chunk[4:-4]) != checksum:
                raise damaged("the checksum of chunk 'IHDR' is wrong")
            return _checked(*values)
    raise damaged("the header is not the first chunk")


def _checked(*values: int) -> Header:
    """Return a header; raise UnreadableImageError for invalid values (11.2.1)."""
    width, height, depth, color_type, compression, filtering, interlace = values
    if width == 0 or height == 0:
        raise damaged(f"its width is {width}, and its height is {height}")
    if color_type not in SAMPLES:
        raise damaged(f"its color type is {color_type}")
    if depth not in _DEPTHS.get(color_type, (8, 16)):
        with_palette = ", with a palette" if color_type == _PALETTE else ""
        raise damaged(f"its bit depth is {depth}{with_palette}")
    if compression or filtering:
        raise damaged(f"its compression method is {compression}, its filter method {filtering}")
    if interlace > 1:
        raise damaged(f"its interlace method is {interlace}")
    return Header(width, height, depth, color_type, interlace)


def damaged(reason: str) -> UnreadableImageError:
    """Return the error for a damaged image."""
    return UnreadableImageError(f"the image is damaged: {reason}")
