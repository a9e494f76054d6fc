"""JPEG, WebP, BMP, GIF and TIFF that are odd or broken: the right pixels, or a clear refusal.

TIFF is written by tifffile, which shares nothing with the decoder, BMP by hand.
"""

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from logitserve.inference import images
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from tests.tiny_models import encode

Y, X = np.mgrid[0:37, 0:41]
GRAY = ((X + Y) * 3).astype(np.uint8)
RGB = np.stack([X * 6, Y * 6, GRAY], axis=-1).astype(np.uint8)
RGBA = np.dstack([RGB, 255 - GRAY])
PLANES = np.ascontiguousarray(np.moveaxis(RGB, 2, 0))
SIXTEEN = (GRAY.astype(np.uint16) << 8) + 7

COLORS = {"photometric": "rgb"}
TILED = {"tile": (16, 16), "compression": "zlib", "predictor": True}


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def ramp_tiff(bits: int, photometric: int) -> bytes:
    """Four samples from the lowest to the highest of so many bits, in one row."""
    highest = 2**bits - 1
    packed = "".join(f"{highest * step // 3:0{bits}b}" for step in range(4)).ljust(48, "0")
    data = int(packed, 2).to_bytes(6, "big")
    entries = [
        *((256, 4), (257, 1), (258, bits), (259, 1), (262, photometric)),
        *((273, 8), (277, 1), (278, 1), (279, -(-bits * 4 // 8))),
    ]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 14) + data + struct.pack("<H", len(entries)) + directory


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(RGB), RGB),
        (tiff(RGB, byteorder=">"), RGB),
        (tiff(RGB, bigtiff=True), RGB),
        (tiff(RGB, rowsperstrip=5), RGB),
        (tiff(RGB, **TILED), RGB),
        (tiff(RGB, byteorder=">", **TILED), RGB),
        (tiff(PLANES, planarconfig="separate", **COLORS), RGB),
        (tiff(PLANES, planarconfig="separate", **COLORS, **TILED), RGB),
        (tiff(np.stack([RGB, 255 - RGB]), **COLORS), RGB),
        (tiff(RGBA, extrasamples=["unassalpha"], **COLORS), RGBA),
        (tiff(RGBA, extrasamples=["unspecified"], **COLORS), RGB),
        (tiff(np.dstack([RGBA, GRAY]), extrasamples=["unspecified"] * 2, **COLORS), RGB),
        (
            tiff(RGBA[:, :, 2:], photometric="minisblack", extrasamples=["unassalpha"]),
            RGBA[:, :, 2:],
        ),
        (tiff(GRAY, photometric="minisblack"), GRAY),
        (tiff(GRAY, photometric="miniswhite"), 255 - GRAY),
        (tiff(SIXTEEN), GRAY),
        (tiff(SIXTEEN, byteorder=">"), GRAY),
        (tiff(SIXTEEN, compression="zlib", predictor=True), GRAY),
        (tiff(65535 - SIXTEEN, photometric="miniswhite"), GRAY),
        (tiff((RGB.astype(np.uint16) << 8) + 3, **COLORS), RGB),
        (tiff((RGB.astype(np.uint16) << 8) + 3, byteorder=">", **COLORS, **TILED), RGB),
        (tiff(GRAY > 99, photometric="minisblack"), np.where(GRAY > 99, 255, 0)),
        (tiff(GRAY > 99, photometric="miniswhite"), np.where(GRAY > 99, 0, 255)),
        *[(ramp_tiff(bits, 1), np.array([[0, 85, 170, 255]])) for bits in (2, 4, 8, 12)],
        *[(ramp_tiff(bits, 0), np.array([[255, 170, 85, 0]])) for bits in (2, 4, 8)],
    ],
    ids=str,
)
def test_tiff_of_every_kind(data: bytes, expected: npt.NDArray[np.integer]) -> None:
    np.testing.assert_array_equal(images.decode(data), expected)


def test_opacity_multiplied_into_a_tiff() -> None:
    opacity = np.full_like(GRAY, 128)
    for samples, kind in ((GRAY, {"photometric": "minisblack"}), (RGB, COLORS)):
        faint = np.rint(samples * (128 / 255)).astype(np.uint8)
        data = tiff(np.dstack([faint, opacity]), extrasamples=["assocalpha"], **kind)
        found = images.decode(data)
        np.testing.assert_array_equal(found[:, :, -1], opacity)
        np.testing.assert_allclose(found[:, :, :-1].squeeze().astype(int), samples, atol=2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(GRAY.astype(np.float32) / 255), "floating-point"),
        (tiff(GRAY.astype(np.float64)), "unsupported variant"),
        (tiff(RGB.astype(np.float32), **COLORS), "unsupported variant"),
        (tiff(GRAY.astype(np.int16)), "signed"),
        (tiff(GRAY.astype(np.int32)), "signed"),
        (tiff(GRAY.astype(np.uint32)), "32 bits"),
        (tiff(PLANES.astype(np.uint16), planarconfig="separate", **COLORS), "planes of 16 bits"),
        (tiff(RGB, bigtiff=True, byteorder=">"), "unsupported variant"),
    ],
    ids=str,
)
def test_tiff_that_is_no_usual_picture_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        images.decode(data)


def bmp(
    width: int,
    height: int,
    bits: int,
    data: bytes,
    *,
    compression: int = 0,
    palette: bytes = b"",
    masks: bytes = b"",
) -> bytes:
    start = 14 + 40 + len(masks) + len(palette)
    return b"".join(
        [
            b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start),
            struct.pack("<IiiHHII", 40, width, height, 1, bits, compression, len(data)),
            struct.pack("<iiII", 0, 0, len(palette) // 4, 0),
            masks + palette + data,
        ]
    )


PALETTE = b"".join(bytes([blue, 2 * blue % 256, 255 - blue, 0]) for blue in range(256))


def colors(*indices: int) -> list[list[int]]:
    return [list(PALETTE[4 * index : 4 * index + 3][::-1]) for index in indices]


TWO_ROWS = b"\1\2\3\0\4\5\6\0"
MASKS = struct.pack("<III", 0xF800, 0x7E0, 0x1F)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bmp(1, 2, 24, TWO_ROWS), [[[6, 5, 4]], [[3, 2, 1]]]),
        (bmp(1, -2, 24, TWO_ROWS), [[[3, 2, 1]], [[6, 5, 4]]]),
        (bmp(1, 1, 32, b"\1\2\3\0"), [[[3, 2, 1]]]),
        (bmp(2, 1, 16, b"\xff\x7f\0\x7c"), [[[255, 255, 255], [255, 0, 0]]]),
        (
            bmp(2, 1, 16, b"\xff\xff\0\xf8", compression=3, masks=MASKS),
            [[[255, 255, 255], [255, 0, 0]]],
        ),
        (bmp(4, 1, 8, b"\1\2\3\4", palette=PALETTE), [colors(1, 2, 3, 4)]),
        (bmp(4, 1, 4, b"\x12\x34\0\0", palette=PALETTE[:64]), [colors(1, 2, 3, 4)]),
        (bmp(4, 1, 1, b"\x50\0\0\0", palette=PALETTE[:8]), [colors(0, 1, 0, 1)]),
        (
            bmp(4, 2, 8, b"\4\5\0\0\2\6\2\7\0\1", compression=1, palette=PALETTE),
            [colors(6, 6, 7, 7), colors(5, 5, 5, 5)],
        ),
        (
            bmp(4, 1, 4, b"\4\x12\0\1", compression=2, palette=PALETTE[:64]),
            [colors(1, 2, 1, 2)],
        ),
        (
            b"BM" + struct.pack("<IHHIIHHHH", 30, 0, 0, 26, 12, 1, 1, 1, 24) + b"\1\2\3\0",
            [[[3, 2, 1]]],
        ),
    ],
)
def test_bmp_of_every_kind(data: bytes, expected: list[list[list[int]]]) -> None:
    np.testing.assert_array_equal(images.decode(data), expected)


def test_jpegs_of_four_channels() -> None:
    """Ink as C, M, Y and K, and as YCCK: luminance and color of C, M, Y, beside K."""
    red = Image.new("RGB", (16, 16), (200, 40, 30))
    none = Image.new("L", red.size, 0)
    cmy = [channel.point(lambda level: 255 - level) for channel in red.split()]
    plain = encode(Image.merge("CMYK", [*cmy, none]), "JPEG", quality=100)
    ink = Image.merge("RGB", cmy).convert("YCbCr")
    ycc = [channel.point(lambda level: 255 - level) for channel in ink.split()]
    ycck = bytearray(encode(Image.merge("CMYK", [*ycc, none]), "JPEG", quality=100))
    transform = ycck.index(b"Adobe") + 11
    assert ycck[transform] == 0
    ycck[transform] = 2
    for data in (plain, bytes(ycck)):
        np.testing.assert_allclose(
            images.decode(data).astype(int), np.full((16, 16, 3), (200, 40, 30)), atol=4
        )


WHOLE_JPEG = encode(Image.fromarray(RGB), "JPEG")


@pytest.mark.parametrize("ending", [b"\0\0", b"\xff\xd0", b"\xff\xd9" + b"junk" * 99])
def test_a_jpeg_with_all_its_pixels_and_another_ending(ending: bytes) -> None:
    np.testing.assert_array_equal(
        images.decode(WHOLE_JPEG[:-2] + ending), images.decode(WHOLE_JPEG)
    )


def announced(format_name: str, width: int, height: int) -> bytes:
    """A file whose header announces another size than it has."""
    data = bytearray(encode(Image.fromarray(GRAY), format_name))
    if format_name == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    else:
        at, layout = {"BMP": (18, "<ii"), "GIF": (6, "<HH")}[format_name]
        struct.pack_into(layout, data, at, width, height)
    return bytes(data)


@pytest.mark.parametrize("format_name", ["JPEG", "BMP", "GIF"])
@pytest.mark.parametrize("side", [1_000, 20_000, 65_000])
def test_more_pixels_than_even_pillow_opens(format_name: str, side: int) -> None:
    with pytest.raises(TooManyPixelsError, match=f"{side * side} pixels; the limit is 900000 pix"):
        images.decode(announced(format_name, side, side), max_pixels=900_000)


@pytest.mark.parametrize(("width", "height"), [(0, 37), (41, 0), (0, 0)])
@pytest.mark.parametrize("format_name", ["JPEG", "BMP"])
def test_no_pixels(format_name: str, width: int, height: int) -> None:
    with pytest.raises(UnreadableImageError):
        images.decode(announced(format_name, width, height))


def test_a_gif_frame_that_is_larger_than_its_screen() -> None:
    data = announced("GIF", 1, 1)
    np.testing.assert_array_equal(images.decode(data)[:, :, 0], GRAY)
    with pytest.raises(TooManyPixelsError, match="41×37"):
        images.decode(data, max_pixels=41 * 37 - 1)


def test_a_tile_of_a_tiff_that_is_larger_than_the_limit() -> None:
    data = tiff(GRAY, tile=(1024, 512), compression="zlib")
    np.testing.assert_array_equal(images.decode(data), GRAY)
    with pytest.raises(TooManyPixelsError, match="512×1024 = 524288 pixels"):
        images.decode(data, max_pixels=1024 * 512 - 1)


@pytest.mark.parametrize("format_name", ["WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns(format_name: str, orientation: int) -> None:
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.swapaxes(0, 1),
        6: RGB[::-1].swapaxes(0, 1),
        7: RGB[::-1, ::-1].swapaxes(0, 1),
        8: RGB[:, ::-1].swapaxes(0, 1),
    }
    if format_name == "TIFF":
        data = tiff(RGB, extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(Image.fromarray(RGB), "WEBP", lossless=True, exif=exif)
    np.testing.assert_array_equal(images.decode(data), turned[orientation])


@pytest.mark.parametrize("format_name", ["JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_that_cannot_be_read_turns_nothing(format_name: str, exif: bytes) -> None:
    image = Image.fromarray(RGB)
    options = {"lossless": True} if format_name == "WEBP" else {}
    with_exif = encode(image, format_name, exif=exif, **options)
    np.testing.assert_array_equal(
        images.decode(with_exif), images.decode(encode(image, format_name, **options))
    )


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_counts(format_name: str) -> None:
    first, second = (Image.fromarray(samples) for samples in (GRAY, 255 - GRAY))
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encode(first, format_name, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
    found = images.decode(data)
    np.testing.assert_array_equal(found if found.ndim == 2 else found[:, :, 0], GRAY)


def whole_files() -> dict[str, bytes]:
    image, gray = Image.fromarray(RGB), Image.fromarray(GRAY)
    return {
        "JPEG": WHOLE_JPEG,
        "progressive JPEG": encode(image, "JPEG", progressive=True),
        "CMYK JPEG": encode(image.convert("CMYK"), "JPEG"),
        "WebP": encode(image, "WEBP"),
        "lossless WebP": encode(Image.fromarray(RGBA), "WEBP", lossless=True),
        "animated WebP": encode(image, "WEBP", save_all=True, append_images=[gray.convert("RGB")]),
        "BMP": encode(gray, "BMP"),
        "GIF": encode(gray, "GIF"),
        "animated GIF": encode(gray, "GIF", save_all=True, append_images=[image.convert("L")]),
        "LZW TIFF": encode(gray, "TIFF", compression="tiff_lzw"),
        "JPEG TIFF": encode(image, "TIFF", compression="jpeg"),
        "Group 4 TIFF": encode(gray.convert("1"), "TIFF", compression="group4"),
        "tiled TIFF": tiff(RGB, **TILED),
        "16-bit TIFF": tiff(SIXTEEN),
        "PNG": encode(image, "PNG"),
        "palette PNG": encode(image.quantize(9), "PNG"),
        "16-bit PNG": encode(Image.fromarray(SIXTEEN), "PNG"),
    }


WHOLE = whole_files()


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_off_anywhere_it_is_refused_or_complete(kind: str) -> None:
    whole = WHOLE[kind]
    expected = images.decode(whole)
    refused = 0
    for length in range(0, len(whole), max(1, len(whole) // 400)):
        try:
            found = images.decode(whole[:length])
        except UnreadableImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert refused > 0.9 * min(400, len(whole)) or "animated" in kind
