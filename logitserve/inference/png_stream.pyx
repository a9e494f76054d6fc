# cython: wraparound=False, initializedcheck=False
"""The chunks of PNG files, and their rows, decompressed and reconstructed; compiled.

ISA-L decompresses, which is faster than zlib (`benchmarks/codecs.py`). Sections refer to the PNG
specification (third edition, https://www.w3.org/TR/png-3/).
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcmp, memcpy

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError

from logitserve.inference.png import HEADER_END, MAX_CHUNKS, damaged

ctypedef unsigned char uint8

cdef enum:
    # Filter types (9.2).
    NONE, SUB, UP, AVERAGE, PAETH
    # Bytes of a chunk besides its content: length and name before it, and its CRC (5.3).
    BEFORE = 8, AFTER = 4
    # The bit of a chunk name's first letter that marks an ancillary chunk (5.4).
    ANCILLARY = 0x20
    # Maximum bytes of compressed data passed at a time; what is left of them is copied.
    PIECE = 65_536

cdef const char *END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def walk(bytes data not None):
    """Return the contents of the IDAT chunks, and of the others by name, up to IEND.

    Args:
        data: a file with a valid header.

    Raises:
        UnreadableImageError: a chunk is truncated, misplaced or has a wrong CRC; there are more
            than `MAX_CHUNKS`.
    """
    cdef const uint8 *start = data
    cdef Py_ssize_t size = len(data), position = HEADER_END, begin, end, count, most = MAX_CHUNKS
    cdef list pixels = []
    cdef dict others = {}
    cdef bytes name, previous = b""
    view = memoryview(data)
    for count in range(most):
        begin = position + BEFORE
        if begin + AFTER > size:
            raise damaged("it is truncated")
        if memcmp(start + position, END, BEFORE + AFTER) == 0:
            return pixels, others
        end = begin + _number(start + position)
        if end + AFTER > size:
            raise damaged("it is truncated")
        name = data[begin - 4:begin]
        if isal_zlib.crc32(view[begin - 4:end]) != _number(start + end):
            raise damaged(f"the checksum of chunk {_printable(name)} is wrong")
        if name == b"IDAT":
            if pixels and previous != name:
                raise damaged("its IDAT chunks are not consecutive")
            pixels.append(slice(begin, end))
        elif name != b"IEND" and (start[begin - 4] & ANCILLARY or name == b"PLTE"):
            others[name] = slice(begin, end)
        else:
            raise damaged(f"chunk {_printable(name)} is misplaced")
        position, previous = end + AFTER, name
    raise damaged(f"it has more than {MAX_CHUNKS} chunks")


cdef inline Py_ssize_t _number(const uint8* at) noexcept nogil:
    """Return an unsigned big-endian number of 4 bytes (7.1)."""
    return (<Py_ssize_t>at[0] << 24) | (at[1] << 16) | (at[2] << 8) | at[3]


def _printable(bytes name):
    return repr(name)[1:]


cdef class Rows:
    """The rows in the IDAT chunks of a file, in their order."""

    cdef bytes data
    cdef list chunks
    cdef Py_ssize_t chunk, position, end, part
    cdef object unpacker
    cdef bytes packed, rest
    cdef bint is_full

    def __init__(self, bytes data not None, list chunks not None, Py_ssize_t part):
        """Begin before the first row.

        Args:
            data: the file.
            chunks: the contents of its IDAT chunks, as slices.
            part: bytes decompressed at a time.
        """
        self.data, self.chunks, self.part = data, chunks, part
        self.chunk = self.position = self.end = 0
        self.unpacker = isal_zlib.decompressobj()
        self.packed = self.rest = b""
        self.is_full = False  # more may be decompressed without more data

    def read(self, Py_ssize_t count, Py_ssize_t size, Py_ssize_t step):
        """Return the next rows, reconstructed, uint8 `[count, size]`.

        Args:
            count: number of rows, at least 1; the one before them is taken as 0.
            size: bytes per row, at least 1.
            step: bytes per pixel, at least 1.

        Raises:
            UnreadableImageError: the data are damaged or too short, or a filter type is unknown.
        """
        if count < 1 or size < 1 or step < 1:
            raise ValueError(f"{count} rows of {size} bytes, in steps of {step}")
        rows = np.empty((count, size), np.uint8)
        cdef Py_buffer buffer
        PyObject_GetBuffer(rows, &buffer, PyBUF_WRITABLE)
        try:
            self._read(<uint8*>buffer.buf, count, size, min(step, size))
        finally:
            PyBuffer_Release(&buffer)
        return rows

    cdef _read(self, uint8* rows, Py_ssize_t count, Py_ssize_t size, Py_ssize_t step):
        cdef Py_ssize_t first = 0, length, taken
        cdef bytes data, zeros = bytes(size)
        cdef const uint8* above = zeros
        while first < count:
            data = self.rest or self._next()
            if len(data) <= size:
                data = self._extended(data, size + 1)
            taken = min(len(data) // (size + 1), count - first)
            above = _unfilter(data, rows + first * size, above, first, taken, size, step)
            first += taken
            length = taken * (size + 1)
            self.rest = data[length:] if length < len(data) else b""

    cdef bytes _extended(self, bytes data, Py_ssize_t size):
        """Append parts to data until they have `size` bytes."""
        held, length = [data], len(data)
        while length < size:
            held.append(self._next())
            length += len(held[len(held) - 1])
        return b"".join(held)

    cdef bytes _next(self):
        """Decompress the next part."""
        cdef bytes part = b""
        while not part:
            if not self.packed and not self.is_full:
                self.packed = self._piece()
            if self.unpacker.eof:
                raise _too_few()
            try:
                part = self.unpacker.decompress(self.packed, self.part)
            except IsalError as error:
                raise damaged(f"IDAT stream error: {error}") from error
            self.packed = self.unpacker.unconsumed_tail
            self.is_full = len(part) == self.part
            if self.packed and not part:
                raise damaged("IDAT stream error: it cannot be decompressed")
        return part

    cdef bytes _piece(self):
        """Return the next piece of the chunks."""
        while self.position == self.end:
            if self.chunk == len(self.chunks):
                raise _too_few()
            chunk = self.chunks[self.chunk]
            self.chunk += 1
            self.position, self.end = chunk.start, chunk.stop
        begin = self.position
        self.position = min(begin + PIECE, self.end)
        return self.data[begin:self.position]


def _too_few():
    return damaged("it has too few pixels, the stream is too short")


cdef const uint8* _unfilter(
    const uint8* source,
    uint8* rows,
    const uint8* above,
    Py_ssize_t first,
    Py_ssize_t count,
    Py_ssize_t size,
    Py_ssize_t step,
) except NULL:
    """Reconstruct rows that come after `above` (9); return the last of them."""
    cdef Py_ssize_t row
    for row in range(count):
        if source[row * (size + 1)] > PAETH:
            raise damaged(f"the filter type of row {first + row} is {source[row * (size + 1)]}")
    with nogil:
        for row in range(count):
            _reconstruct(source[0], source + 1, above, rows, size, step)
            above = rows
            rows += size
            source += size + 1
    return above


cdef void _reconstruct(
    uint8 kind,
    const uint8* source,
    const uint8* above,
    uint8* row,
    Py_ssize_t size,
    Py_ssize_t step,
) noexcept nogil:
    cdef Py_ssize_t at
    if kind == NONE:
        memcpy(row, source, size)
        return
    if kind == UP:
        for at in range(size):
            row[at] = source[at] + above[at]
        return
    # There is no pixel to the left of the first one.
    for at in range(step):
        row[at] = source[at]
        if kind == AVERAGE:
            row[at] += above[at] >> 1
        elif kind == PAETH:
            row[at] += above[at]
    # Compilers make faster loops for a constant number of bytes.
    if step == 1:
        _reconstruct_rest(kind, source, above, row, size, 1)
    elif step == 3:
        _reconstruct_rest(kind, source, above, row, size, 3)
    elif step == 4:
        _reconstruct_rest(kind, source, above, row, size, 4)
    else:
        _reconstruct_rest(kind, source, above, row, size, step)


cdef inline void _reconstruct_rest(
    uint8 kind,
    const uint8* source,
    const uint8* above,
    uint8* row,
    Py_ssize_t size,
    Py_ssize_t step,
) noexcept nogil:
    cdef Py_ssize_t at
    if kind == SUB:
        for at in range(step, size):
            row[at] = source[at] + row[at - step]
    elif kind == AVERAGE:
        for at in range(step, size):
            row[at] = source[at] + ((row[at - step] + above[at]) >> 1)
    else:
        for at in range(step, size):
            row[at] = source[at] + _paeth(row[at - step], above[at], above[at - step])


cdef inline int _paeth(int left, int above, int corner) noexcept nogil:
    """Return the neighbor that is nearest to left + above - corner (9.4)."""
    cdef int by_left = above - corner, by_above = left - corner, by_corner = by_left + by_above
    by_left = by_left if by_left >= 0 else -by_left
    by_above = by_above if by_above >= 0 else -by_above
    by_corner = by_corner if by_corner >= 0 else -by_corner
    if by_left <= by_above and by_left <= by_corner:
        return left
    return above if by_above <= by_corner else corner
