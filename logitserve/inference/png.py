"""PNG files → samples, by libspng.

Every chunk is checked against its CRC first, which neither libspng (as pyspng builds it) nor
Pillow does for pixels, and only the chunks that pixels are made of are handed on: text, color
profiles and the other frames of an APNG are never unpacked. Section numbers are those of the PNG
specification (third edition, https://www.w3.org/TR/png-3/).
"""

import struct
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyspng

from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError

Samples = npt.NDArray[np.uint8]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 65_536
"""Each costs a turn of Python; encoders cut pixels into chunks of some kilobytes."""

_FRAME: Final = 12
"""Bytes of a chunk around its content: length, name, CRC (5.3)."""
_HEADER: Final = struct.Struct(">IIBBBBB")
"""Width, height, bit depth, color type, compression, filter, interlace (11.2.1)."""
_HEADER_BEGIN: Final = len(SIGNATURE) + 8
_HEADER_END: Final = _HEADER_BEGIN + _HEADER.size + 4
_HEADER_HEAD: Final = b"\x00\x00\x00\x0dIHDR"
_OPTIONAL: Final = 0x20
"""The bit of a chunk's first letter that says that it may be passed over (5.4)."""
_chunk_head = struct.Struct(">I4s").unpack_from
_number = struct.Struct(">I").unpack_from

_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_WIDE: Final[dict[int, tuple[str, Any]]] = {
    _GRAY: ("RGB", np.s_[:, :, 0]),
    _RGB: ("RGB", np.s_[:]),
    _GRAY_ALPHA: ("RGBA", np.s_[:, :, [0, 3]]),
    _RGBA: ("RGBA", np.s_[:]),
}
"""Color type of 16-bit samples → libspng's 8-bit format, and which of its channels are wanted."""

_TRUNCATED: Final = "it is truncated"


def _chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", crc32(body))


_END_CHUNK: Final = _chunk(b"IEND", b"")


def decode(data: bytes, *, max_pixels: int) -> tuple[Samples, bytes]:
    """Decode a file that begins with `SIGNATURE`.

    16-bit samples are scaled to 8 and palettes are resolved. Of an APNG, the default image counts;
    gamma and color profiles are not applied.

    Args:
        data: the file; what follows its IEND chunk is ignored.
        max_pixels: width × height that the header may announce; checked before decoding.

    Returns:
        `[h, w]` luminance, `[h, w, 2]` with opacity, `[h, w, 3]` RGB or `[h, w, 4]` RGBA; and the
        EXIF data, empty where there is none.

    Raises:
        UnreadableImageError: truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if data[len(SIGNATURE) : _HEADER_BEGIN] != _HEADER_HEAD or len(data) < _HEADER_END:
        raise _damaged("it does not begin with a header")
    width, height, bit_depth, color_type, *_ = _HEADER.unpack_from(data, _HEADER_BEGIN)
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)
    chunks = _walk(data)
    if len(chunks) == 3 and bit_depth <= 8 and color_type != _PALETTE and chunks[1][0] == b"IDAT":
        return _load(data), b""  # what is sent most needs no more steps
    file = _File(data, bit_depth, color_type)
    for chunk in chunks[1:-1]:
        file.take(*chunk)
    return file.samples(), file.exif


def _walk(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, begin and end of every chunk up to IEND; each is whole and has the right CRC."""
    chunks: list[tuple[bytes, int, int]] = []
    size = len(data)
    position = len(SIGNATURE)
    name = b""
    while name != b"IEND":
        if position + _FRAME > size:
            raise _damaged(_TRUNCATED)
        length, name = _chunk_head(data, position)
        end = position + _FRAME + length
        if end > size:
            raise _damaged(_TRUNCATED)
        if crc32(data[position + 4 : end - 4]) != _number(data, end - 4)[0]:
            raise _damaged(f"the checksum of its chunk {_printable(name)} is wrong")
        if len(chunks) == MAX_CHUNKS:
            raise _damaged(f"it has more than {MAX_CHUNKS} chunks")
        chunks.append((name, position, end))
        position = end
    return chunks


class _File:
    """What a file says of its pixels."""

    def __init__(self, data: bytes, bit_depth: int, color_type: int) -> None:
        self._data = data
        self._bit_depth = bit_depth
        self._color_type = color_type
        self._pixel_chunks: list[bytes] = []
        self._after_pixels = False
        self._palette = b""
        self._transparency = b""
        self.exif = b""

    def take(self, name: bytes, begin: int, end: int) -> None:
        """Remember what a chunk between header and end says."""
        content = slice(begin + 8, end - 4)
        if name == b"IDAT":
            if self._after_pixels:
                raise _damaged("other chunks stand between those with its pixels")
            self._pixel_chunks.append(self._data[begin:end])
            return
        self._after_pixels = bool(self._pixel_chunks)
        if name == b"PLTE":
            self._palette = self._data[content]
        elif name == b"tRNS":
            self._transparency = self._data[content]
        elif name == b"eXIf":
            self.exif = self._data[content]
        elif not name[0] & _OPTIONAL:
            raise _damaged(f"its chunk {_printable(name)} does not belong there")

    def samples(self) -> Samples:
        """The pixels, 8 bits a sample, with opacity if there is any."""
        if self._color_type == _PALETTE:
            return self._from_palette()
        if self._bit_depth == 16:
            read_as, channels = _WIDE.get(self._color_type, ("RGB", np.s_[:]))
            samples: Samples = self._loaded(read_as)[channels]
        else:
            samples = self._loaded()
        if self._transparency and self._color_type in (_GRAY, _RGB):
            return np.dstack([samples, self._opacity()])
        return samples

    def _loaded(self, read_as: str | None = None, header: bytes | None = None) -> Samples:
        """By libspng, which need not see the other chunks."""
        before = self._data[: _HEADER_BEGIN - 8]
        header = header or self._data[_HEADER_BEGIN - 8 : _HEADER_END]
        return _load(b"".join([before, header, *self._pixel_chunks, _END_CHUNK]), read_as)

    def _loaded_as(self, bit_depth: int, color_type: int, read_as: str) -> Samples:
        """The pixels read under another header that gives each as many bits.

        pyspng gives neither the indices into a palette nor 16-bit gray. Filters and interlacing
        are about bytes (9.2), so the same bytes read as something else are these.
        """
        content = bytearray(self._data[_HEADER_BEGIN : _HEADER_END - 4])
        content[8:10] = bit_depth, color_type
        return self._loaded(read_as, _chunk(b"IHDR", bytes(content)))

    def _from_palette(self) -> Samples:
        entries, odd = divmod(len(self._palette), 3)
        if odd or not 1 <= entries <= 256 or self._bit_depth > 8:
            raise _damaged("its palette is missing, or is not one")
        colors = np.zeros((256, 3), np.uint8)  # what is not in the palette is black
        colors[:entries] = np.frombuffer(self._palette, np.uint8).reshape(-1, 3)
        if self._transparency:
            listed = np.frombuffer(self._transparency, np.uint8)[:256]
            opacity = np.full(256, 255, np.uint8)
            opacity[: len(listed)] = listed
            colors = np.column_stack([colors, opacity])
        return colors[self._loaded_as(self._bit_depth, _GRAY, "L") // self._spread]

    def _opacity(self) -> Samples:
        """0 where a sample is exactly the one that is transparent (11.3.1.1), 255 elsewhere."""
        channels = 1 if self._color_type == _GRAY else 3
        if len(self._transparency) != 2 * channels:
            raise _damaged("its chunk 'tRNS' has another length than it must have")
        key = np.frombuffer(self._transparency, ">u2") & (2**self._bit_depth - 1)
        samples: npt.NDArray[np.integer]
        if self._bit_depth < 16:
            samples = self._loaded() // self._spread
        elif self._color_type == _GRAY:
            high, low = np.moveaxis(self._loaded_as(8, _GRAY_ALPHA, "RGBA")[:, :, [0, 3]], 2, 0)
            samples = high.astype(np.uint16) << 8 | low
        else:
            samples = self._loaded()[:, :, :channels]  # uint16
        transparent = (samples.reshape(*samples.shape[:2], channels) == key).all(axis=2)
        return np.where(transparent, 0, 255).astype(np.uint8)

    @property
    def _spread(self) -> int:
        """What libspng multiplies samples of fewer bits with, so that they go from 0 to 255."""
        return int(255 // (2**self._bit_depth - 1))


def _load(data: bytes, read_as: str | None = None) -> Samples:
    try:
        samples: Samples = pyspng.load(data, read_as)
    except (MemoryError, RuntimeError) as error:
        _, _, reason = str(error).rpartition(": ")  # the name of the library and its function
        raise _damaged(reason) from error
    return samples


def _damaged(reason: str) -> UnreadableImageError:
    return UnreadableImageError(f"the picture is damaged: {reason}")


def _printable(name: bytes) -> str:
    return repr(name)[1:]
