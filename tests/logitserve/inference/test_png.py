"""PNG of every kind, written by pypng, which shares nothing with the decoders; and broken ones."""

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import png as pypng
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from logitserve.inference import images
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.png import MAX_CHUNKS
from tests.png_files import END, PICTURE, PIXELS, SIGNATURE, chunk, file, header, rows

HEIGHT, WIDTH = 7, 11  # not whole bytes of 1, 2 or 4 bits, and odd for interlacing

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]  # fmt: skip

KINDS = [
    *[(depth, {"greyscale": True}, 1) for depth in (1, 2, 4, 8, 16)],
    *[(depth, {"greyscale": True, "alpha": True}, 2) for depth in (8, 16)],
    *[(depth, {"greyscale": False}, 3) for depth in (8, 16)],
    *[(depth, {"greyscale": False, "alpha": True}, 4) for depth in (8, 16)],
]


interlaced = pytest.mark.parametrize("interlace", [False, True], ids=["plain", "interlaced"])


def random_samples(depth: int, channels: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    shape = (HEIGHT, WIDTH, channels)
    return np.random.default_rng(seed).integers(0, 2**depth, shape, np.uint16)


def eight_bit(samples: npt.NDArray[np.uint16], depth: int) -> npt.NDArray[np.uint8]:
    scaled = samples >> 8 if depth == 16 else samples * (255 // (2**depth - 1))
    return scaled.astype(np.uint8)


def written(samples: npt.NDArray[np.integer], depth: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    writer = pypng.Writer(width=WIDTH, height=HEIGHT, bitdepth=depth, **options)
    writer.write(buffer, samples.reshape(HEIGHT, -1).tolist())
    return buffer.getvalue()


@interlaced
@pytest.mark.parametrize(("depth", "options", "channels"), KINDS)
def test_every_kind(
    depth: int, options: dict[str, bool], channels: int, *, interlace: bool
) -> None:
    samples = random_samples(depth, channels)
    found = images.decode(written(samples, depth, interlace=interlace, **options))
    np.testing.assert_array_equal(found, eight_bit(samples, depth).squeeze())


@interlaced
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes(depth: int, *, transparent: bool, interlace: bool) -> None:
    indices = random_samples(depth, 1)
    channels = 4 if transparent else 3
    palette = np.random.default_rng(1).integers(0, 256, (2**depth, channels), np.uint8)
    if transparent:
        palette[-1, 3] = 255  # so that tRNS is shorter than the palette
        palette[0, 3] = 7
    data = written(
        indices, depth, palette=[tuple(color) for color in palette.tolist()], interlace=interlace
    )
    np.testing.assert_array_equal(images.decode(data), palette[indices[:, :, 0]])


@interlaced
@pytest.mark.parametrize(("depth", "options", "channels"), [k for k in KINDS if k[2] in (1, 3)])
def test_a_transparent_color(
    depth: int, options: dict[str, bool], channels: int, *, interlace: bool
) -> None:
    samples = random_samples(depth, channels)
    key = samples[2, 3]
    if depth == 16:  # differs in its low bytes alone
        samples[4, 4] = key ^ 1
    transparent = int(key[0]) if channels == 1 else tuple(key.tolist())
    found = images.decode(
        written(samples, depth, transparent=transparent, interlace=interlace, **options)
    )
    opacity = np.where((samples == key).all(axis=2), 0, 255)
    np.testing.assert_array_equal(found[:, :, -1], opacity)
    np.testing.assert_array_equal(found[:, :, :-1], eight_bit(samples, depth))


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
    st.data(),
)
def test_pillow_agrees(picture: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    mode = ["L", "LA", "RGB", "RGBA"][picture.shape[2] - 1]
    image = Image.fromarray(picture.squeeze(axis=2) if mode == "L" else picture, mode)
    if mode in ("L", "RGB") and data.draw(st.booleans()):
        image = image.quantize(data.draw(st.integers(2, 256)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=data.draw(st.integers(0, 9)))
    by_pillow = np.asarray(Image.open(buffer).convert("RGBA"))
    found = Image.fromarray(np.ascontiguousarray(images.decode(buffer.getvalue())))
    np.testing.assert_array_equal(np.asarray(found.convert("RGBA")), by_pillow)


@interlaced
@given(
    color=st.sampled_from([0, 2, 4, 6]), depth=st.sampled_from([8, 16]), seed=st.integers(0, 999)
)
def test_every_filter(*, color: int, depth: int, seed: int, interlace: bool) -> None:
    """Rows of random bytes, each with one of the five filters, as pypng reconstructs them."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    drawn = np.random.default_rng(seed)
    head = header(width=WIDTH, height=HEIGHT, depth=depth, color=color, last=int(interlace))
    raw = b""
    passes = ADAM7 if interlace else [(0, 0, 1, 1)]
    for left, top, across, down in passes:
        columns, lines = len(range(left, WIDTH, across)), len(range(top, HEIGHT, down))
        for _ in range(lines if columns else 0):
            raw += bytes([drawn.integers(5)]) + drawn.bytes(columns * samples * depth // 8)
    data = file(chunk(b"IDAT", zlib.compress(raw)), head=head)
    _, _, values, _ = pypng.Reader(bytes=data).read_flat()
    expected = np.array(values, np.uint16).reshape(HEIGHT, WIDTH, samples)
    found = images.decode(data)
    np.testing.assert_array_equal(found, eight_bit(expected, depth).squeeze())


@pytest.mark.parametrize("shape", [(900, 700, 3), (2, 1_300_000), (1_300_000, 2)])
def test_an_image_that_is_decompressed_in_several_parts(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(images.decode(images.encode_png(picture)), picture)


@pytest.mark.parametrize("size", [1, 65_536, 2**30])
def test_chunks_of_any_size_are_decompressed(size: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (400, 500), np.uint8)
    packed = zlib.compress(rows(picture))
    parts = [packed[start : start + size] for start in range(0, 10 * min(size, 99), size)]
    parts.append(packed[sum(map(len, parts)) :])
    data = file(*(chunk(b"IDAT", part) for part in parts), head=header(500, 400))
    np.testing.assert_array_equal(images.decode(data), picture)


@given(st.integers(0, len(file()) * 8 - 1))
def test_no_flipped_bit_slips_through(bit: int) -> None:
    data = bytearray(file())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((UnreadableImageError, TooManyPixelsError)):
        images.decode(bytes(data), max_pixels=10_000)


COMPRESSED = zlib.compress(rows())
BOMB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "data",
    [
        file(PIXELS, head=None) + b"junk" * 100,
        file(chunk(b"zTXt", b"key\0\0" + BOMB), PIXELS),
        file(PIXELS, chunk(b"zTXt", b"key\0\0" + BOMB)),
        file(chunk(b"iCCP", b"name\0\0" + BOMB), PIXELS),
        file(chunk(b"iCCP", b"name\0\0rubbish"), PIXELS),
        file(chunk(b"abCd", bytes(5_000_000)), PIXELS),
        file(chunk(b"gAMA", struct.pack(">I", 90_000)), PIXELS),
        file(chunk(b"gAMA", b"?"), PIXELS),
        file(chunk(b"sRGB", b"\xff"), PIXELS),
        file(chunk(b"tEXt", b"no key"), PIXELS),
        file(chunk(b"PLTE", bytes(9)), PIXELS),
        file(chunk(b"eXIf", b"rubbish"), PIXELS),
        file(chunk(b"acTL", bytes(8)), chunk(b"fcTL", bytes(26)), PIXELS, chunk(b"fdAT", bytes(9))),
        file(*[chunk(b"IDAT", bytes([byte])) for byte in COMPRESSED]),
        file(chunk(b"IDAT"), PIXELS),
        file(chunk(b"IDAT", COMPRESSED + b"junk")),
        file(chunk(b"IDAT", zlib.compress(rows() + bytes(50_000_000)))),
    ],
    ids=itertools.count(),
)
def test_what_is_not_pixels_does_not_matter(data: bytes) -> None:
    np.testing.assert_array_equal(images.decode(data), PICTURE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (file(chunk(b"IDAT", COMPRESSED[:-9])), "too short"),
        (file(chunk(b"IDAT", zlib.compress(rows()[:-5]))), "too short"),
        (file(chunk(b"IDAT")), "too short"),
        (file(chunk(b"IDAT", b"no zlib")), "IDAT stream error"),
        (file(chunk(b"IDAT", COMPRESSED, crc=7)), "checksum of chunk 'IDAT'"),
        (file(chunk(b"gAMA", bytes(4), crc=7), PIXELS), "checksum of chunk 'gAMA'"),
        (file(chunk(b"IDAT", COMPRESSED[:9]), chunk(b"tEXt", b"a\0"), PIXELS), "not consecutive"),
        (file(PIXELS, chunk(b"ABCD")), "'ABCD' is misplaced"),
        (file(header(), PIXELS), "'IHDR' is misplaced"),
        (file(*[chunk(b"abCd")] * MAX_CHUNKS), "more than 65536 chunks"),
        (file(chunk(b"tRNS", b"?"), PIXELS), "tRNS"),
        (file(PIXELS, head=header(color=3)), "palette is missing"),
        (file(chunk(b"tRNS", b"?"), PIXELS, head=header(color=3)), "palette is missing"),
        (file(chunk(b"PLTE", bytes(8)), PIXELS, head=header(color=3)), "palette"),
        (file(chunk(b"PLTE", bytes(9)), PIXELS, head=header(depth=16, color=3)), "palette"),
        (file(chunk(b"IDAT", zlib.compress(b"\x05" + rows()[1:]))), "filter type of row 0 is 5"),
        (file(chunk(b"PLTE", bytes(9)), PIXELS, head=header(color=3)), "not in its palette"),
        (file(head=header(width=0)), "width"),
        (file(head=header(height=0)), "height"),
        (file(head=header(depth=3)), "bit depth"),
        (file(head=header(color=5)), "color type"),
        (file(head=header(last=2)), "interlace"),
        (SIGNATURE + END, "header"),
        (SIGNATURE + header() + struct.pack(">I4s", 2**31 - 1, b"tEXt") + bytes(99), "truncated"),
    ],
    ids=itertools.count(),
)
def test_the_broken_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match="the image is damaged: .*" + reason):
        images.decode(data)


def test_the_limit_is_held_against_the_header_alone() -> None:
    with pytest.raises(TooManyPixelsError):
        images.decode(SIGNATURE + header(width=30_000, height=30_000))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_png(orientation: int, depth: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    wide = np.repeat(PICTURE, depth // 8, axis=1)
    pixels = chunk(b"IDAT", zlib.compress(rows(wide)))
    turned = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.T,
        6: PICTURE[::-1].T,
        7: PICTURE[::-1, ::-1].T,
        8: PICTURE[:, ::-1].T,
    }
    for chunks in ((turn, pixels), (pixels, turn)):
        found = images.decode(file(*chunks, head=header(depth=depth)))
        np.testing.assert_array_equal(found, turned[orientation])


def test_odd_exif_turns_a_png_as_far_as_it_can_be_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turning = exif.tobytes().removeprefix(b"Exif\0\0")
    for content, expected in (
        (turning, PICTURE[::-1, ::-1]),
        (turning[:9], PICTURE),
        (b"", PICTURE),
        (b"II*\0\xff\xff\xff\xff", PICTURE),
    ):
        found = images.decode(file(chunk(b"eXIf", content), PIXELS))
        np.testing.assert_array_equal(found, expected)
