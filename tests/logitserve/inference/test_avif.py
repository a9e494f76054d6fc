"""AVIF: the same picture, within the same limits, or refused in words."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from logitserve.inference import avif, images
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from tests.tiny_models import encode

WIDTH, HEIGHT = 96, 64
RAMP = np.linspace(0, 255, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint8)
RGB = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
RGBA = np.dstack([RGB, RAMP])
BEST: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"}


def made(samples: Any, **options: Any) -> bytes:
    return encode(Image.fromarray(samples), "AVIF", **options)


WHOLE = {
    "gray": made(RAMP),
    "color": made(RGB),
    "best": made(RGB, **BEST),
    "opacity": made(RGBA),
    "tiles": made(np.tile(RGB, (8, 8, 1)), tile_rows=1, tile_cols=1, speed=10),
}


def announcing(data: bytes, width: int, height: int) -> bytes:
    """With another size in `ispe`; the frame stays as it is."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize(("samples", "shape"), [(RAMP, 2), (RGB, 3), (RGBA, 3)])
def test_a_picture_is_the_same(samples: Any, shape: int) -> None:
    subsampling = "4:0:0" if shape == 2 else "4:4:4"
    found = images.decode(made(samples, quality=100, subsampling=subsampling))
    assert (found.shape, found.ndim) == (samples.shape, shape)
    assert np.abs(found.astype(int) - samples).max() <= 3


@pytest.mark.parametrize(
    ("kind", "count"), [("gray", 1), ("color", 1), ("opacity", 2), ("tiles", 1)]
)
def test_frames_are_counted_with_their_opacity(kind: str, count: int) -> None:
    factor = 64 if kind == "tiles" else 1
    assert avif.frames(WHOLE[kind]) == [WIDTH * HEIGHT * factor] * count


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_it_says(orientation: int) -> None:
    turned = []
    for format_name, options in (("AVIF", BEST), ("PNG", {})):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(Image.fromarray(RGB), format_name, exif=exif, **options)
        turned.append(images.decode(data).astype(int))
    assert np.abs(turned[0] - turned[1]).max() <= 3


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    whole = WHOLE["color"]
    assert images.decode(whole, max_pixels=WIDTH * HEIGHT).shape == RGB.shape
    for data in (whole, whole[:-200]):
        with pytest.raises((TooManyPixelsError, UnreadableImageError)):
            images.decode(data, max_pixels=WIDTH * HEIGHT - 1)
    with pytest.raises(TooManyPixelsError, match="6144 pixels"):
        images.decode(whole, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize("kind", ["gray", "color", "opacity"])
def test_a_frame_that_is_larger_than_it_announces_is_refused(kind: str) -> None:
    data = announcing(WHOLE[kind], 16, 16)
    assert Image.open(io.BytesIO(data)).size == (16, 16)
    with pytest.raises(TooManyPixelsError):
        images.decode(data, max_pixels=WIDTH * HEIGHT - 1)
    counted = images.memory(data, max_pixels=WIDTH * HEIGHT)
    assert counted >= WIDTH * HEIGHT * 8


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_off_anywhere_it_is_refused(kind: str) -> None:
    whole = WHOLE[kind]
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        with pytest.raises(UnreadableImageError):
            images.decode(whole[:length])


def test_what_follows_is_ignored() -> None:
    np.testing.assert_array_equal(
        images.decode(WHOLE["color"] + b"more"), images.decode(WHOLE["color"])
    )


def test_an_animation_is_refused_in_words() -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1])
    data = encode(first, "AVIF", save_all=True, append_images=[second])
    with pytest.raises(UnreadableImageError, match="animated"):
        images.decode(data)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_is_refused_with_what_to_do(brand: bytes) -> None:
    """The first bytes of a picture of an iPhone."""
    head = struct.pack(">I4s4sI4s4s", 24, b"ftyp", brand, 0, b"mif1", b"heic")
    with pytest.raises(UnreadableImageError, match=r"HEIC is not supported.*Most Compatible"):
        images.decode(head + bytes(200))


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_no_bytes_raise_anything_else(kind: str, data: st.DataObject) -> None:
    changed = bytearray(WHOLE[kind][: data.draw(st.integers(16, 2000))])
    for _ in range(data.draw(st.integers(0, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        images.decode(bytes(changed), max_pixels=10**6)
    except (UnreadableImageError, TooManyPixelsError):
        return


@given(st.binary(max_size=300))
def test_boxes_of_anything_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        images.decode(struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + data)


def test_what_costs_more_than_it_is_is_refused() -> None:
    """Many units, and many items that share their bytes."""
    unit = WHOLE["gray"]
    items = 60_000
    entries = b"".join(
        struct.pack(">I4sIHH4s", 20, b"infe", 2 << 24, item, 0, b"av01") for item in range(items)
    )
    places = b"".join(struct.pack(">HHHHII", item, 0, 0, 1, 0, 100_000) for item in range(items))

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    meta = box(b"iinf", struct.pack(">IH", 0, items) + entries)
    meta += box(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, items) + places)
    data = unit[:32] + box(b"meta", bytes(4) + meta)
    with pytest.raises(UnreadableImageError):
        images.decode(data)
