"""Decode the pixels of PNG files.

Sections refer to the PNG specification (third edition, https://www.w3.org/TR/png-3/).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from logitserve.inference.png import PART, SAMPLES, Header, damaged
from logitserve.inference.png_stream import Rows, walk

Samples = npt.NDArray[np.uint8]

_ADAM7: Final = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each interlacing pass, and its steps (8.1)."""
_PALETTE_BYTES: Final = range(3, 3 * 256 + 1, 3)


def decode(data: bytes, header: Header) -> tuple[Samples, bytes]:
    """Decode a file to 8-bit samples, `[h, w]` or `[h, w, channels]`, and its EXIF data.

    Palette and transparent color are applied. 16-bit samples lose their low bytes.

    Args:
        data: the file.
        header: its header.

    Raises:
        UnreadableImageError: a chunk, the pixels, the palette or the transparency are damaged.
    """
    pixels, others = walk(data)
    layout = _layout(header)
    rows = Rows(data, pixels, layout.part)
    if layout.has_samples and not others:
        read = rows.read(header.height, layout.passes[0].size, layout.step)
        return read.reshape(layout.shape), b""
    samples = _samples(rows, layout, header)
    transparency, exif = (data[others.get(name, slice(0))] for name in (b"tRNS", b"eXIf"))
    if header.has_palette:
        palette = data[others.get(b"PLTE", slice(0))]
        return _colors(palette, transparency, samples[:, : header.width, 0, 0]), exif
    levels = np.ascontiguousarray(samples[:, : header.width, :, 0])
    if transparency and not header.has_alpha:
        opacity = _opacity(transparency, header, samples[:, : header.width])
        return np.concatenate([_scaled(levels, header), opacity[:, :, np.newaxis]], axis=2), exif
    return _scaled(levels, header).reshape(layout.shape), exif


def _scaled(levels: Samples, header: Header) -> Samples:
    """Return levels of less than 8 bits from 0 to 255."""
    return levels * np.uint8(255 // (2**header.bit_depth - 1)) if header.bit_depth < 8 else levels


def _colors(palette: bytes, transparency: bytes, indices: Samples) -> Samples:
    """Apply the palette: RGB, or RGBA with transparency (11.2.2, 11.3.1.1)."""
    if len(palette) not in _PALETTE_BYTES:
        raise damaged("its palette is missing or invalid")
    colors = np.frombuffer(palette, np.uint8).reshape(-1, 3)
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


def _samples(rows: Rows, layout: "_Layout", header: Header) -> Samples:
    """Return the samples, `[h, w, channels, 1]`, or `[h, w, channels, 2]` of 16 bits."""
    if not header.interlace:
        ((*_, count, size),) = layout.passes
        return _unpacked(rows.read(count, size, layout.step), header)
    channels = SAMPLES[header.color_type]
    shape = header.height, header.width, channels, max(header.bit_depth // 8, 1)
    whole = np.empty(shape, np.uint8)
    for each in layout.passes:
        part = _unpacked(rows.read(each.rows, each.size, layout.step), header)
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
    shape: tuple[int, ...]
    """`[h, w]` of one sample per pixel, else `[h, w, channels]`."""
    has_samples: bool
    """Whether the bytes of the rows are the samples, unless there is a transparent color."""


@lru_cache(maxsize=64)
def _layout(header: Header) -> _Layout:
    channels = SAMPLES[header.color_type]
    bits = header.bit_depth * channels
    passes = []
    for left, top, across, down in _ADAM7 if header.interlace else ((0, 0, 1, 1),):
        columns = -(-(header.width - left) // across)
        rows = -(-(header.height - top) // down)
        if columns > 0 and rows > 0:
            size = -(-columns * bits // 8)
            passes.append(_Pass(left, top, across, down, columns, rows, size))
    total = sum(each.rows * (1 + each.size) for each in passes)
    shape = header.height, header.width, channels
    last = 3 if channels > 1 else 2
    has_samples = header.bit_depth == 8 and not (header.interlace or header.has_palette)
    return _Layout(passes, max(bits // 8, 1), min(total + 1, PART), shape[:last], has_samples)
