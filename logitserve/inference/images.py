"""Encoded images ↔ arrays. The only place where image files are decoded.

`png` decodes PNG; Pillow decodes the other formats, and palettes with transparency.
"""

import io
import math
import re
import warnings
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import (
    ExifTags,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from logitserve.inference import avif, png
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.image_warnings import ImageWarning, Warn

Samples = npt.NDArray[np.uint8]
"""`[h, w]` luminance, `[h, w, 2]` luminance and opacity, `[h, w, 3]` RGB or `[h, w, 4]` RGBA."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
PICTURE_SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif"}
    | {".bmp", ".dib", ".gif", ".tif", ".tiff"}
)
"""Of the files that are taken from folders and tar files; one that is named may have any."""
DEFAULT_MAX_PIXELS: Final = 50_000_000
MOST_PIXELS: Final = 178_956_970
"""Pillow opens no image with more, whatever is allowed (twice its `MAX_IMAGE_PIXELS`)."""
JPEG_START: Final = b"\xff\xd8\xff"
_STARTS: Final = (png.SIGNATURE[:4], JPEG_START, b"RIFF", b"BM", b"GIF8", b"II", b"MM")
"""How files of those formats begin."""
_LIBSPNG_PIXELS: Final = 384 * 384
"""A larger PNG is decoded by Pillow: libspng's binding holds Python's lock all the while."""
_HEIF: Final = b"ftyp"
"""Type of the first box of an AVIF or HEIC file."""
_HEIC: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BYTES: Final = 8
"""Of a pixel of each frame in an AVIF, besides those below (measured, together: 17.3 of 36 with
opacity; frames of 16 bits a sample take 3 more)."""
_PILLOW_BYTES: Final = 20
"""Of a pixel, while Pillow decodes and converts an image (measured: 18.2 of a WebP)."""
_COEFFICIENT_BYTES: Final = 2
"""Of a sample of a JPEG with several scans, which libjpeg holds whole before it makes pixels."""
_AVERAGED: Final = ("L", "LA", "RGB", "RGBA", "CMYK")
_STRIP_ROWS: Final = 16
"""Rows of the result that are averaged at a time."""
_SCAN: Final = b"\xff\xda"
"""Begins a scan of a JPEG (ITU-T T.81, B.1.1.3); elsewhere a zero follows each 0xff."""


def decode(
    data: bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    needed: int | None = None,
    gray: bool = False,
    warn: Warn | None = None,
) -> Samples:
    """Decode one image, upright, to 8-bit samples.

    Of an animation the first frame counts (of an APNG the default image), of a document the first
    page. EXIF orientation is applied, and 16-bit samples are scaled to 8. Gamma and color profiles
    are not applied; the CMYK of a JPEG is taken for inverted, as browsers take it.

    A PNG is checked against its checksums. The other formats have none, so what is damaged in the
    middle may decode to other pixels; what is cut off is refused in each.

    Args:
        data: a file in one of `FORMATS`; what follows its end is ignored.
        max_pixels: width × height that the header may announce; checked before decoding.
        needed: pixels of the shorter side; an image that has twice as many or more may be returned
            smaller, with at least as many. None: the whole size.
        gray: whether the luminance of a JPEG is enough, which is half of the work.
        warn: called when the image is turned.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if data.startswith(png.SIGNATURE):
        return _from_png(data, max_pixels, needed, warn)
    if not data:
        raise UnreadableImageError("the image is empty: 0 bytes")
    return _by_pillow(data, FORMATS[1:], max_pixels, needed, warn, gray=gray)


def memory(data: bytes, *, max_pixels: int, needed: int | None = None) -> int:
    """Bytes that decoding and fitting takes at most, by the header; 0 of what `decode` refuses."""
    try:
        if data.startswith(png.SIGNATURE):
            return png.memory(data, max_pixels)
        frames = avif.frames(data) if data[4:8] == _HEIF else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS[1:])
            pixels = math.prod(_size(image))
            if max([pixels, *frames]) > max_pixels:
                return 0
            coefficients = sum(frames) * _AVIF_BYTES
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                if image.info.get("progressive") or data.count(_SCAN) > 1:
                    coefficients = pixels * len(image.getbands()) * _COEFFICIENT_BYTES
                _draft(image, needed)
                pixels = math.prod(image.size)
            return pixels * _PILLOW_BYTES + coefficients
    except Exception:  # noqa: BLE001 - see `_by_pillow`
        return 0


def averaged(samples: Samples, needed: int) -> Samples:
    """Shrink a large image by a whole factor: its shorter side keeps at least `needed` pixels.

    Each pixel is the mean of a block; where there is opacity, weighted by it. It takes little more
    memory than its result.
    """
    factor = min(samples.shape[:2]) // needed
    if factor < 2:
        return samples
    rows = factor * _STRIP_ROWS
    strips = [samples[top : top + rows] for top in range(0, len(samples), rows)]
    return np.concatenate(
        [np.asarray(Image.fromarray(np.ascontiguousarray(s)).reduce(factor)) for s in strips]
    )


def _reduced(image: Image.Image, needed: int | None) -> Image.Image:
    """Average blocks, as `averaged` does; where the mode has no means, leave that for later."""
    factor = 1 if needed is None else min(image.size) // needed
    if factor > 1 and image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.reduce(factor) if factor > 1 and image.mode in _AVERAGED else image


def _draft(image: JpegImagePlugin.JpegImageFile, needed: int | None, *, gray: bool = False) -> None:
    """Let a JPEG be decoded smaller, and without its colors."""
    mode = "L" if gray and image.mode == "RGB" else None
    size = image.size if needed is None else (needed, needed)
    if mode or needed is not None:
        image.draft(mode, size)


def encode_png(samples: Samples) -> bytes:
    """A PNG file of `[h, w]` luminance or `[h, w, 3]` RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, "PNG")
    return file.getvalue()


def _from_png(data: bytes, max_pixels: int, needed: int | None, warn: Warn | None) -> Samples:
    header = png.header(data)
    if header.width * header.height > max_pixels:
        raise TooManyPixelsError(header.width, header.height, max_pixels)
    pixels, others = png.walk(data)
    is_large = header.width * header.height > _LIBSPNG_PIXELS
    if not (others or is_large or header.has_palette) and header.bit_depth <= 8:
        return png.decode(data)
    file = png.stripped(data, header, pixels, others)
    transparency = png.content(data, others, b"tRNS")
    if is_large:
        png.check_header(header)
        png.check_pixels(data, header, pixels)
    samples: Samples
    if transparency and not (header.has_palette or header.has_alpha):
        samples = png.with_opacity(file, header, transparency)
    elif is_large or transparency:
        samples = png.in_channels(_by_pillow(file, FORMATS[:1], max_pixels, needed, None), header)
    else:
        samples = png.decode(file) if header.bit_depth <= 8 else png.narrowed(file, header)
    if b"eXIf" not in others:
        return samples
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.info["exif"] = png.content(data, others, b"eXIf")
    return np.asarray(_upright(image, warn))


def _by_pillow(
    data: bytes,
    formats: tuple[str, ...],
    max_pixels: int,
    needed: int | None,
    warn: Warn | None,
    *,
    gray: bool = False,
) -> Samples:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends (odd EXIF, trailing data) and of many pixels, which
            # are checked below against our own limit.
            warnings.simplefilter("ignore")
            if data[4:8] == _HEIF:
                _check_frames(data, max_pixels)
            image = Image.open(io.BytesIO(data), formats=formats)
            width, height = _size(image)
            if width * height > max_pixels:
                raise TooManyPixelsError(width, height, max_pixels)
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                return _from_tiff(image, max_pixels, warn)
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                _draft(image, needed, gray=gray)
            image.load()
            return _eight_bit(_upright(_reduced(image, needed), warn))
    except UnidentifiedImageError as error:
        _refuse_unknown(data, error)
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise TooManyPixelsError(pixels, None, min(max_pixels, MOST_PIXELS)) from error
    except (TooManyPixelsError, UnreadableImageError):
        raise
    # What Pillow's decoders raise on damaged files is not one class: OSError for truncation,
    # SyntaxError and ValueError for bad chunks, and struct, index and overflow errors besides.
    except Exception as error:
        raise png.damaged(str(error)) from error


def _check_frames(data: bytes, max_pixels: int) -> None:
    """Refuse HEIC, and an AVIF of larger frames than it announces."""
    if data[8:12] in _HEIC and b"av01" not in data[:4096]:
        raise UnreadableImageError(
            "HEIC is not read here; send JPEG or AVIF (on an iPhone: Settings, Camera, Formats, "
            "Most Compatible)"
        )
    for pixels in avif.frames(data):
        if pixels > max_pixels:
            raise TooManyPixelsError(pixels, None, max_pixels)


def _size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height that it will have; a frame of a GIF may be larger than its screen."""
    width, height = image.size
    for tile in image.tile:
        if tile.extents is not None:
            width, height = max(width, tile.extents[2]), max(height, tile.extents[3])
    return width, height


def _refuse_unknown(data: bytes, error: Exception) -> NoReturn:
    formats = ", ".join(FORMATS)
    if data.startswith(_STARTS):
        raise UnreadableImageError(
            "the image is damaged or truncated at its beginning, or of a kind that is not read "
            f"here; send one of {formats}, in its usual form"
        ) from error
    raise UnreadableImageError(f"not an image that is read here; send one of {formats}") from error


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    # EXIF that cannot be read turns nothing; Pillow raises as many things for it as for pixels.
    except Exception:  # noqa: BLE001
        return False


def _upright(image: Image.Image, warn: Warn | None) -> Image.Image:
    if not _is_turned(image):
        return image
    if warn:
        warn(ImageWarning.TURNED_BY_EXIF)
    image.info.pop("exif", None)  # it has been read; Pillow fails to write some of it again
    return ImageOps.exif_transpose(image)


def _from_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int, warn: Warn | None) -> Samples:
    """TIFF holds more than images, and Pillow reads some of it wrongly rather than not."""
    tags = image.tag_v2
    # A tile is decoded whole, however little of it lies in the image.
    width, height = (
        int(tags.get(tag, 0)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
    )
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)
    if set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) != {1}:
        raise _unusual("samples that are signed or floating-point")
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if bits > 16:
        raise _unusual(f"{bits} bits a sample")
    if bits == 16 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and image.mode != "I;16":
        raise _unusual("planes of 16 bits a sample")
    if warn and _is_turned(image):  # before loading, which turns it
        warn(ImageWarning.TURNED_BY_EXIF)
    image.load()
    if not image.mode.startswith("I;16"):
        return _eight_bit(image)
    # Pillow's own conversion clips samples at 255 instead of scaling them.
    samples: Samples = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    white_is_0 = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return ~samples if white_is_0 else samples


def _eight_bit(image: Image.Image) -> Samples:
    """Any of Pillow's modes → L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode == "La":  # opacity multiplied into it
        image = image.convert("LA")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        else:
            image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def _unusual(what: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"a TIFF with {what} is not read here; send unsigned samples of 8 bits"
    )
