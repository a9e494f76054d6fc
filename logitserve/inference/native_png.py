"""PNG files with which nothing is left to do but to decode them: of the network's own size.

That is what clients of a classifier send most. They are recognized without being decoded, so that
those of a whole batch can be decoded one after the other, while code and tables are at hand, and be
looked at by numpy together. What is not recognized is no error: `pixels.decode` takes it.
"""

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pyspng import c as libspng  # its `load` costs a tenth more for nothing that is needed here

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.mnist import normalize
from logitserve.inference.mnist.form import are_normalized, is_normalized
from logitserve.inference.preprocessing import Pixels

FEW: Final = 4
"""Pictures up to which each is looked at alone, which is faster then (`benchmarks/costs.py`)."""

_GRAY, _RGB = 0, 2
_CHUNK = struct.Struct(">I4s")
"""Length and name, before the content of a chunk; behind it stands its CRC."""
_CRC = struct.Struct(">I")
_SLACK: Final = 64
"""Bytes around pixels that did not get smaller when they were compressed, and the other chunks."""
_END: Final = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"


class NativePng:
    """The PNG files that have the size and the channels of one network's input."""

    def __init__(self, spec: InputSpec) -> None:
        color_type = _GRAY if spec.channels == 1 else _RGB
        header = struct.pack(">4sIIBBBBB", b"IHDR", spec.width, spec.height, 8, color_type, 0, 0, 0)
        length, checksum = _CRC.pack(len(header) - 4), _CRC.pack(crc32(header))
        self._spec = spec
        self._start = b"\x89PNG\r\n\x1a\n" + length + header + checksum
        self.pixels = spec.width * spec.height
        rows = spec.height * (1 + spec.width * spec.channels)
        self._longest = len(self._start) + rows + rows // 256 + _SLACK

    def accepts(self, data: bytes) -> bool:
        """Whether this is such a file: 8 bits a sample, not interlaced, all pixels in one chunk.

        It is then no longer than pixels can be, so that decoding it is quick; and its
        checksums are right. Whether its pixels can be unpacked is seen when they are.
        """
        if not data.startswith(self._start) or not data.endswith(_END) or len(data) > self._longest:
            return False
        begin = len(self._start) + _CHUNK.size
        end = len(data) - len(_END) - _CRC.size
        if _CHUNK.unpack_from(data, begin - _CHUNK.size) != (end - begin, b"IDAT"):
            return False
        checksum: int = _CRC.unpack_from(data, end)[0]
        return checksum == crc32(data[begin - 4 : end])

    def decode(self, data: bytes) -> Pixels:
        """Decode a file that `accepts` found to be such: uint8, `[height, width, channels]`.

        Raises:
            UnreadableImageError: its pixels cannot be unpacked.
        """
        try:
            samples: Pixels = libspng.spng_decode_image_bytes(data, libspng.SPNG_FMT_AUTO)
        except (MemoryError, RuntimeError):
            return preprocessing.decode(data, self._spec)  # which says what is wrong
        return samples

    def stacked(self, samples: Sequence[Pixels]) -> Pixels:
        """Decoded pictures as one array, `[n, height, width, channels]`."""
        joined = bytearray().join(
            [sample.data for sample in samples]
        )  # sooner than by numpy (`benchmarks/costs.py`)
        return np.frombuffer(joined, np.uint8).reshape(len(samples), *self._spec.shape)

    def unfinished(self, images: Pixels) -> npt.NDArray[np.int64]:
        """Which of these decoded pictures, `[n, height, width, channels]`, do not fit yet."""
        if self._spec.fit is not Fit.DIGIT or not len(images):
            return np.empty(0, np.int64)
        digits = images[:, :, :, 0]
        if len(digits) > FEW:
            return np.flatnonzero(~are_normalized(digits))
        return np.flatnonzero([not is_normalized(digit) for digit in digits])

    def finish(self, images: Pixels, unfinished: npt.NDArray[np.int64]) -> None:
        """Make those fit, in place, as `pixels.decode` does."""
        height, width, _ = self._spec.shape
        for index in unfinished:
            digit = images[index, :, :, 0]
            images[index, :, :, 0] = normalize.normalize(digit, None, height=height, width=width)
