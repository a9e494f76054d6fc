"""The quick way for PNGs of the network's size says what the common way says."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import UnreadableImageError
from logitserve.inference.native_png import FEW, NativePng
from tests.logitserve.inference.test_handwriting import REFERENCE
from tests.tiny_models import encode, png

DIGIT = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
GRAY = InputSpec(height=9, width=14, channels=1, fit=Fit.STRETCH)
COLOR = InputSpec(height=9, width=14, channels=3, fit=Fit.PAD)


def by_native(spec: InputSpec, files: list[bytes]) -> npt.NDArray[np.uint8]:
    native = NativePng(spec)
    assert all(map(native.accepts, files))
    images = native.stacked([native.decode(file) for file in files])
    native.finish(images, native.unfinished(images))
    return images


@given(
    seed=st.integers(0, 2**32),
    spec=st.sampled_from([GRAY, COLOR, DIGIT]),
    count=st.sampled_from([1, 2, FEW, FEW + 1, 12]),
    level=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_pictures_of_any_kind_come_out_as_the_common_way_makes_them(
    seed: int, spec: InputSpec, count: int, level: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    if spec is DIGIT:
        for picture in pictures[::2]:
            move = tuple(rng.integers(-2, 3, 2).tolist())
            picture[:, :, 0] = np.roll(REFERENCE, move, axis=(0, 1))
        pictures[-1] //= 200
    files = [png(picture, compress_level=level) for picture in pictures]
    expected = np.stack([preprocessing.decode(file, spec) for file in files])
    assert np.array_equal(by_native(spec, files), expected)


def resealed(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def test_what_is_not_exactly_that_is_left_to_the_common_way() -> None:
    native = NativePng(GRAY)
    picture = np.arange(126, dtype=np.uint8).reshape(9, 14)
    file = png(picture)
    assert native.accepts(file)
    image = Image.fromarray(picture)
    others = [
        b"",
        file[:40],
        file[:-1],
        file + b"\n",
        file[:33] + resealed(b"IDAT", zlib.compress(picture.tobytes()) + bytes(200)) + file[-12:],
        file.replace(b"IDAT", b"IDAt"),
        file[:50] + bytes([file[50] ^ 1]) + file[51:],
        file[:-12] + resealed(b"tEXt", b"a\0b") + file[-12:],
        png(picture.T),
        png(np.dstack([picture] * 3)),
        png(np.dstack([picture] * 4)),
        encode(image, "PNG", transparency=3),
        encode(image.convert("1"), "PNG"),
        encode(image.convert("P"), "PNG"),
        encode(image.convert("I;16"), "PNG"),
        encode(image, "BMP"),
    ]
    assert not any(map(native.accepts, others))


@pytest.mark.parametrize("content", [b"", b"no zlib", zlib.compress(b"\0" * 20)])
def test_pixels_that_cannot_be_unpacked_are_told_as_elsewhere(content: bytes) -> None:
    file = png(np.zeros((9, 14), np.uint8))
    file = file[:33] + resealed(b"IDAT", content) + file[-12:]
    native = NativePng(GRAY)
    assert native.accepts(file)
    with pytest.raises(UnreadableImageError) as common:
        preprocessing.decode(file, GRAY)
    with pytest.raises(UnreadableImageError) as quick:
        native.decode(file)
    assert str(quick.value) == str(common.value)
