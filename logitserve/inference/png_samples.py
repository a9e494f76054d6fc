"""Decode the pixels of PNG files.

ISA-L decompresses faster than zlib, and the filters are compiled (`benchmarks/codecs.py`). Sections
refer to the PNG specification (third edition, https://www.w3.org/TR/png-3/).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from isal.igzip_lib import IsalError

from logitserve.inference.errors import UnreadableImageError
from logitserve.inference.filters import unfilter
from logitserve.inference.png import FRAME, PART, SAMPLES, Header, content, damaged

Samples = npt.NDArray[np.uint8]

_ADAM7: Final = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each interlacing pass, and its steps (8.1)."""
_PALETTE_BYTES: Final = range(FRAME + 3, FRAME + 3 * 256 + 1, 3)


def decode(
    data: bytes, header: Header, pixels: Sequence[slice], others: Mapping[bytes, slice]
) -> Samples:
    """Decode a file to 8-bit samples, `[h, w]` or `[h, w, channels]`.

    Palette and transparent color are applied. 16-bit samples lose their low bytes.

    Args:
        data: the file.
        header: its header.
        pixels: its IDAT chunks, by `walk`.
        others: its other chunks.

    Raises:
        UnreadableImageError: the pixels, the palette or the transparency are damaged.
    """
    samples = _samples(data, header, pixels)
    transparency = content(data, others, b"tRNS") if others else b""
    if header.has_palette:
        return _colors(data, others, transparency, samples[:, : header.width, 0, 0])
    levels = np.ascontiguousarray(samples[:, : header.width, :, 0])
    if transparency and not header.has_alpha:
        opacity = _opacity(transparency, header, samples[:, : header.width])
        levels = np.concatenate([_scaled(levels, header), opacity[:, :, np.newaxis]], axis=2)
    elif header.bit_depth < 8:
        levels = _scaled(levels, header)
    return levels[:, :, 0] if levels.shape[2] == 1 else levels


def _scaled(levels: Samples, header: Header) -> Samples:
    """Return levels of less than 8 bits from 0 to 255."""
    return levels * np.uint8(255 // (2 ** min(header.bit_depth, 8) - 1))


def _colors(
    data: bytes, others: Mapping[bytes, slice], transparency: bytes, indices: Samples
) -> Samples:
    """Apply the palette: RGB, or RGBA with transparency (11.2.2, 11.3.1.1)."""
    palette = data[others.get(b"PLTE", slice(0))]
    if len(palette) not in _PALETTE_BYTES:
        raise damaged("its palette is missing or invalid")
    colors = np.frombuffer(palette[8:-4], np.uint8).reshape(-1, 3)
    if transparency:
        opacity = np.full(len(colors), 255, np.uint8)
        given = np.frombuffer(transparency, np.uint8)[: len(colors)]
        opacity[: len(given)] = given
        colors = np.column_stack([colors, opacity])
    if indices.max() >= len(colors):
        raise damaged("a pixel is not in its palette")
    return colors[indices]


def _opacity(transparency: bytes, header: Header, samples: Samples) -> Samples:
    """Return 0 for pixels of the transparent color, else 255 (11.3.1.1): `[h, w]`."""
    if len(transparency) != 2 * samples.shape[2]:
        raise damaged("the length of chunk 'tRNS' is wrong")
    color = np.frombuffer(transparency, np.uint8).reshape(-1, 2)
    if header.bit_depth < 16:
        color = color[:, 1:] & np.uint8(2**header.bit_depth - 1)
    return np.where((samples == color).all(axis=(2, 3)), np.uint8(0), np.uint8(255))


def _samples(data: bytes, header: Header, pixels: Sequence[slice]) -> Samples:
    """Return the samples, `[h, w, channels, 1]`, or `[h, w, channels, 2]` of 16 bits."""
    layout = _layout(header)
    stream = _Stream(data, pixels, layout.part)
    if not header.interlace:
        return _unpacked(stream.rows(layout.passes[0], layout.step), header)
    channels = SAMPLES[header.color_type]
    shape = header.height, header.width, channels, max(header.bit_depth // 8, 1)
    whole = np.empty(shape, np.uint8)
    for each in layout.passes:
        part = _unpacked(stream.rows(each, layout.step), header)
        whole[each.top :: each.down, each.left :: each.across] = part[:, : each.columns]
    return whole


def _unpacked(rows: Samples, header: Header) -> Samples:
    """Return the samples in the bytes of rows; of less than 8 bits, the last may be padding."""
    depth, channels = header.bit_depth, SAMPLES[header.color_type]
    if depth < 8:
        shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
        rows = (rows[:, :, np.newaxis] >> shifts) & np.uint8(2**depth - 1)
        depth = 8
    return rows.reshape(len(rows), -1, channels, depth // 8)


class _Pass(NamedTuple):
    """Pixels that are stored together: all, or those of an interlacing pass."""

    left: int
    top: int
    across: int
    down: int
    columns: int
    rows: int
    size: int
    """Bytes of a row."""


class _Layout(NamedTuple):
    """How the pixels are stored."""

    passes: Sequence[_Pass]
    """Those that have pixels (8.1)."""
    step: int
    """Bytes of a pixel, at least 1."""
    part: int
    """Bytes to be decompressed at a time: one more than all, unless they are many."""


@lru_cache(maxsize=64)
def _layout(header: Header) -> _Layout:
    bits = header.bit_depth * SAMPLES[header.color_type]
    passes = []
    for left, top, across, down in _ADAM7 if header.interlace else ((0, 0, 1, 1),):
        columns = -(-(header.width - left) // across)
        rows = -(-(header.height - top) // down)
        if columns > 0 and rows > 0:
            size = -(-columns * bits // 8)
            passes.append(_Pass(left, top, across, down, columns, rows, size))
    total = sum(each.rows * (1 + each.size) for each in passes)
    return _Layout(passes, max(bits // 8, 1), min(total + 1, PART))


class _Stream:
    """The decompressed IDAT chunks, taken by whole rows."""

    def __init__(self, data: bytes, pixels: Sequence[slice], part: int) -> None:
        self._data = data
        self._pixels = iter(pixels)
        self._part = part
        self._unpacker = isal_zlib.decompressobj()
        self._packed = self._rest = b""
        self._is_full = False  # more may be decompressed without more data

    def rows(self, each: _Pass, step: int) -> Samples:
        """Return the reconstructed rows of a pass, uint8 `[rows, bytes]`."""
        rows = np.empty((each.rows, each.size), np.uint8)
        first, size = 0, each.size + 1
        while first < each.rows:
            data = self._rest or self._next()
            if len(data) < size:
                data = self._extended(data, size)
            end = min(len(data) // size, each.rows - first) * size
            try:
                unfilter(data[:end], rows, first, step)
            except ValueError as error:
                raise damaged(str(error)) from error
            self._rest = data[end:]
            first += end // size
        return rows

    def _extended(self, data: bytes, size: int) -> bytes:
        """Append parts to data until they have `size` bytes."""
        held, length = [data], len(data)
        while length < size:
            held.append(self._next())
            length += len(held[-1])
        return b"".join(held)

    def _next(self) -> bytes:
        """Decompress the next part."""
        part = b""
        while not part:
            if not (self._packed or self._is_full):
                chunk = next(self._pixels, None)
                if chunk is None:
                    raise _too_few()
                self._packed = self._data[chunk.start + 8 : chunk.stop - 4]
            if self._unpacker.eof:
                raise _too_few()
            try:
                part = self._unpacker.decompress(self._packed, self._part)
            except IsalError as error:  # type: ignore[misc] # the stub declares an instance
                raise damaged(f"IDAT stream error: {error}") from error
            self._packed = self._unpacker.unconsumed_tail
            self._is_full = len(part) == self._part
            if self._packed and not part:
                raise damaged("IDAT stream error: it cannot be decompressed")
        return part


def _too_few() -> UnreadableImageError:
    return damaged("it has too few pixels, the stream is too short")
