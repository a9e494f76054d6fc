"""Compute the real frame sizes in an AVIF file, which its header may understate.

libavif decodes each frame at its own size, then scales it: 742 bytes with a header of 16×16 pixels
may contain 8192×8192. Sections refer to ISO/IEC 14496-12 (boxes) and the AV1 bitstream
specification.
"""

from collections.abc import Iterator
from typing import Final

from logitserve.inference.errors import UnreadableImageError

MAX_UNITS: Final = 1024
"""Limit of AV1 units per file; a still image has four, or one more per tile group."""
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # 6.2.2


class _Reader:
    """Reads big-endian numbers; raises UnreadableImageError at the end of the data."""

    def __init__(self, data: memoryview) -> None:
        self.rest = data

    def take(self, size: int) -> memoryview:
        taken, self.rest = self.rest[:size], self.rest[size:]
        if len(taken) < size:
            raise UnreadableImageError("the AVIF image is damaged or truncated")
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))


def frames(data: bytes) -> list[int]:
    """Return the pixels of each frame in a still image, with grid tiles, alpha and thumbnails.

    Raises:
        UnreadableImageError: an animation, several frames in one image, damaged, or truncated.
    """
    whole = memoryview(data)
    boxes = _boxes(whole)
    if b"moov" in boxes:
        raise UnreadableImageError("animated AVIF is not supported; send a still image")
    meta = _boxes(boxes.get(b"meta", whole[:0])[4:])
    coded = set(_coded_items(_Reader(meta.get(b"iinf", whole[:0]))))
    sources = {0: whole, 1: meta.get(b"idat", whole[:0])}
    left, units, found = len(data), 0, []
    for item, method, extents in _locations(_Reader(meta.get(b"iloc", whole[:0]))):
        if item not in coded:
            continue
        parts = [_extent(sources.get(method, whole[:0]), *extent) for extent in extents]
        left -= sum(map(len, parts))
        if left < 0:
            raise UnreadableImageError("parts of the AVIF image overlap")
        pixels, count = _frame(parts[0] if len(parts) == 1 else memoryview(b"".join(parts)))
        units += count
        if units > MAX_UNITS:
            raise UnreadableImageError(f"the AVIF image has more than {MAX_UNITS} units")
        found.append(pixels)
    return found


def _boxes(data: memoryview) -> dict[bytes, memoryview]:
    """Return the first box of each type (4.2)."""
    found: dict[bytes, memoryview] = {}
    while len(data) >= 8:
        size, kind, head = int.from_bytes(data[:4]), bytes(data[4:8]), 8
        if size == 1:
            size, head = int.from_bytes(data[8:16]), 16
        size = size or len(data)
        found.setdefault(kind, data[head:size])
        data = data[max(size, head) :]
    return found


def _coded_items(box: _Reader) -> Iterator[int]:
    """Yield the ids of the items that hold AV1 (8.11.6)."""
    version = box.number(4) >> 24
    for _ in range(box.number(2 if version == 0 else 4)):
        entry = _Reader(box.take(max(box.number(4) - 4, 0)))
        kind, version = entry.take(4), entry.number(4) >> 24
        item = entry.number(2 if version == 2 else 4)
        entry.take(2)
        if (bytes(kind), bytes(entry.take(4))) == (b"infe", b"av01"):
            yield item


def _locations(box: _Reader) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield id, construction method, and (offset, length) of the extents of each item (8.11.3)."""
    version, sizes = box.number(4) >> 24, box.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> bits & 15 for bits in (12, 8, 4, 0))
    wide = 2 if version < 2 else 4
    for _ in range(box.number(wide)):
        item = box.number(wide)
        method = box.number(2) & 15 if version else 0
        box.take(2)
        base = box.number(base_size)
        extents = []
        for _ in range(box.number(2)):
            box.take(index_size if version else 0)
            extents.append((base + box.number(offset_size), box.number(length_size)))
        yield item, method, extents


def _extent(source: memoryview, offset: int, length: int) -> memoryview:
    reader = _Reader(source)
    reader.take(offset)
    return reader.take(length or len(reader.rest))


def _frame(data: memoryview) -> tuple[int, int]:
    """Return the pixels of an item's only frame, and the number of its units (5.3)."""
    pixels = count = shown = 0
    reader = _Reader(data)
    while reader.rest and count <= MAX_UNITS:
        head = reader.number(1)
        kind = head >> 3 & 15
        reader.take(head >> 2 & 1)
        unit = reader.take(_leb128(reader) if head & 2 else len(reader.rest))
        count += 1
        if kind == _SEQUENCE_HEADER:
            pixels = max(pixels, _sequence_pixels(unit))
        shown += kind in (_FRAME_HEADER, _FRAME)
    if shown != 1 or not pixels:
        raise UnreadableImageError("an AVIF image with several frames is not supported")
    return pixels, count


def _leb128(reader: _Reader) -> int:
    """Read a LEB128 number: groups of seven bits, the lowest first (4.10.5)."""
    value = 0
    for index in range(8):
        byte = reader.number(1)
        value |= (byte & 127) << 7 * index
        if byte < 128:
            break
    return value


def _sequence_pixels(unit: memoryview) -> int:
    """Return width × height of the largest frame that a sequence header allows (5.5.1)."""
    padded = bytes(unit[:96]).ljust(96, b"\0")
    bits = iter(f"{int.from_bytes(padded):0{8 * len(padded)}b}")

    def take(count: int) -> int:
        return int("".join(next(bits) for _ in range(count)), 2)

    take(4)  # profile, still picture
    if take(1):  # reduced header
        take(5)
    else:
        if take(1):
            raise UnreadableImageError("AVIF with timing information is not supported")
        delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delays and take(1):
                take(4)
    width, height = take(4) + 1, take(4) + 1
    return (take(width) + 1) * (take(height) + 1)
