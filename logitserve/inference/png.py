"""Read PNG files chunk by chunk, and decode them with libspng.

libspng decodes a small image four times faster than Pillow (`benchmarks/codecs.py`). Sections refer
to the PNG specification (third edition, https://www.w3.org/TR/png-3/).
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pyspng import c as libspng  # its `load` is a tenth slower

from logitserve.inference.errors import UnreadableImageError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 65_536
"""Limit of the number of chunks; each takes one loop iteration, and encoders write some kB each."""

_HEADER: Final = struct.Struct(">I4sIIBBBBBI")
"""Length, name, width, height, bit depth, color type, three methods, CRC (11.2.1)."""
_HEADER_END: Final = len(SIGNATURE) + _HEADER.size
_FRAME: Final = 12
"""Bytes of a chunk besides its content: length, name, CRC (5.3)."""
_END: Final = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_OPTIONAL: Final = 0x20
"""The bit of a chunk name's first letter that marks an ancillary chunk (5.4)."""
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS: Final[dict[int, Any]] = {
    _GRAY: np.s_[:, :, 0],
    _RGB: np.s_[:, :, :3],
    _GRAY_ALPHA: np.s_[:, :, ::3],
    _RGBA: np.s_[:],
}
"""Color type → channels in RGBA."""
_PIXEL_BYTES: Final = {_GRAY: 2, _RGB: 6, _PALETTE: 6}
"""Color type → bytes per decoded pixel."""
_SAMPLES: Final = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
"""Color type → samples per pixel in the file."""
_ADAM7: Final = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each interlacing pass, and its steps (8.1)."""
_RGBA_SAMPLES: Final = 4
_UNPACKED: Final = 2**20
"""Bytes decompressed at a time."""
_WIDE_BYTES, _TRANSPARENT_BYTES = 10, 26
"""Bytes per pixel with alpha or 16-bit samples, and while tRNS is applied."""
_PALETTE_BYTES: Final = range(_FRAME + 3, _FRAME + 3 * 256 + 1, 3)
_chunk_head = struct.Struct(">I4s").unpack_from
_number = struct.Struct(">I").unpack_from


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
    return _header(data[len(SIGNATURE) : _HEADER_END])


def memory(data: bytes, max_pixels: int) -> int:
    """Return the maximum memory for decoding in bytes, from the chunks before IDAT."""
    width, height, bit_depth, color_type, _ = header(data)
    each = _PIXEL_BYTES.get(color_type, _WIDE_BYTES) if bit_depth <= 8 else _WIDE_BYTES
    if b"tRNS" in data[: data.find(b"IDAT")]:
        each = _WIDE_BYTES if color_type == _PALETTE else _TRANSPARENT_BYTES
    return width * height * each if width * height <= max_pixels else 0


@lru_cache(maxsize=64)  # most images have the same header
def _header(chunk: bytes) -> Header:
    if len(chunk) == _HEADER.size:
        length, name, width, height, depth, color, _, _, interlace, checksum = _HEADER.unpack(chunk)
        if (length, name) == (13, b"IHDR"):
            if crc32(chunk[4:-4]) != checksum:
                raise damaged("the checksum of chunk 'IHDR' is wrong")
            return Header(width, height, depth, color, interlace)
    raise damaged("the header is not the first chunk")


def walk(data: bytes) -> tuple[list[slice], dict[bytes, slice]]:
    """Return the IDAT chunks, and the others by name, up to IEND; check completeness and CRCs."""
    pixels: list[slice] = []
    others: dict[bytes, slice] = {}
    size, position, previous = len(data), _HEADER_END, b""
    for _ in range(MAX_CHUNKS):
        if data[position : position + _FRAME] == _END:
            return pixels, others
        if position + _FRAME > size:
            raise damaged("it is truncated")
        length, name = _chunk_head(data, position)
        end = position + _FRAME + length
        if end > size:
            raise damaged("it is truncated")
        if crc32(data[position + 4 : end - 4]) != _number(data, end - 4)[0]:
            raise damaged(f"the checksum of chunk {_printable(name)} is wrong")
        if name == b"IDAT":
            if pixels and previous != name:
                raise damaged("its IDAT chunks are not consecutive")
            pixels.append(slice(position, end))
        elif name != b"IEND" and (name[0] & _OPTIONAL or name == b"PLTE"):
            others[name] = slice(position, end)
        else:
            raise damaged(f"chunk {_printable(name)} is misplaced")
        position, previous = end, name
    raise damaged(f"it has more than {MAX_CHUNKS} chunks")


def stripped(
    data: bytes, header: Header, pixels: Sequence[slice], others: Mapping[bytes, slice]
) -> bytes:
    """Return the file without text, color profiles and other frames; they are not decompressed."""
    names: tuple[bytes, ...] = ()
    if header.has_palette:
        names = b"PLTE", b"tRNS"
        palette = data[others.get(b"PLTE", slice(0))]
        if header.bit_depth > 8 or len(palette) not in _PALETTE_BYTES:
            raise damaged("its palette is missing or invalid")
    chunks = [others[name] for name in names if name in others] + [*pixels]
    return b"".join([data[:_HEADER_END], *[data[chunk] for chunk in chunks], _END])


def in_channels(samples: npt.NDArray[np.uint8], header: Header) -> npt.NDArray[np.uint8]:
    """Return gray and alpha of samples that Pillow expands to RGBA, as it does for 16 bits."""
    if header.color_type == _GRAY_ALPHA and samples.shape[2] == _RGBA_SAMPLES:
        return np.ascontiguousarray(samples[:, :, ::3])
    return samples


def check_header(header: Header) -> None:
    """Raise UnreadableImageError for invalid header values (11.2.1)."""
    if header.color_type not in _SAMPLES:
        raise damaged(f"its color type is {header.color_type}")
    if header.bit_depth not in (1, 2, 4, 8, 16):
        raise damaged(f"its bit depth is {header.bit_depth}")
    if header.interlace > 1:
        raise damaged(f"its interlace method is {header.interlace}")


def check_pixels(data: bytes, header: Header, pixels: Sequence[slice]) -> None:
    """Refuse a file with too few pixels, which Pillow pads: decompress and count them.

    Raises:
        UnreadableImageError: there are too few, or they cannot be decompressed.
    """
    left = _unpacked_bytes(header)
    unpacker = zlib.decompressobj()
    try:
        for chunk in pixels:
            packed = data[chunk][8:-4]
            while packed and left > 0:
                left -= len(unpacker.decompress(packed, _UNPACKED))
                packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise damaged(f"IDAT stream error: {error}") from error
    if left > 0:
        raise damaged("it has too few pixels, the stream is too short")


def _unpacked_bytes(header: Header) -> int:
    """Return the bytes of all rows of all passes (8.1), each with its filter byte (9.2)."""
    bits = header.bit_depth * _SAMPLES[header.color_type]
    passes = _ADAM7 if header.interlace else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns = -(-(header.width - left) // across)
        rows = -(-(header.height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def content(data: bytes, others: Mapping[bytes, slice], name: bytes) -> bytes:
    """Return the content of a chunk; empty if it is missing."""
    return data[others[name]][8:-4] if name in others else b""


def decode(data: bytes, form: Any = libspng.SPNG_FMT_AUTO) -> npt.NDArray[Any]:
    """Decode a file checked by `walk`: `[h, w]` or `[h, w, channels]`."""
    try:
        samples: npt.NDArray[Any] = libspng.spng_decode_image_bytes(data, form)
    except (MemoryError, RuntimeError) as error:
        _, _, reason = str(error).rpartition(": ")  # omit the names of library and function
        raise damaged(reason) from error
    return samples[:, :, 0] if samples.shape[2] == 1 else samples


def narrowed(file: bytes, header: Header) -> npt.NDArray[np.uint8]:
    """Decode 16-bit samples to 8 bits."""
    rgba = decode(file, libspng.SPNG_FMT_RGBA8)
    return np.ascontiguousarray(rgba[_CHANNELS.get(header.color_type, np.s_[:])])


def with_opacity(file: bytes, header: Header, transparency: bytes) -> npt.NDArray[np.uint8]:
    """Decode gray or RGB; the color of the tRNS chunk becomes transparent (11.3.1.1)."""
    wide = decode(file, libspng.SPNG_FMT_RGBA16)
    if len(transparency) != (2 if header.color_type == _GRAY else 6):
        raise damaged("the length of chunk 'tRNS' is wrong")
    highest = 2**header.bit_depth - 1
    color = (np.frombuffer(transparency, ">u2") & highest) * (65535 // highest)
    wide[:, :, 3][(wide[:, :, :3] == color).all(axis=2)] = 0
    opaque = _CHANNELS[_GRAY_ALPHA if header.color_type == _GRAY else _RGBA]
    return np.ascontiguousarray((wide[opaque] >> 8).astype(np.uint8))


def damaged(reason: str) -> UnreadableImageError:
    """Return the error for a damaged image."""
    return UnreadableImageError(f"the image is damaged: {reason}")


def _printable(name: bytes) -> str:
    return repr(name)[1:]
