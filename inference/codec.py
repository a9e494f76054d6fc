"""Encoded pictures ↔ arrays. The only place where picture files are decoded."""

import io
import struct
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
import pyspng
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from inference.errors import TooManyPixelsError, UnreadableImageError
from inference.picture_warnings import PictureWarning, Warn

Samples = npt.NDArray[np.uint8]
"""`[h, w]` luminance, `[h, w, 2]` luminance and opacity, `[h, w, 3]` RGB or `[h, w, 4]` RGBA."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
DEFAULT_MAX_PIXELS: Final = 50_000_000

_PNG_START: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_PLAIN_HEADERS: Final = frozenset(bytes([8, color, 0, 0, 0]) for color in (0, 2, 6))
"""Bit depth, color type (gray, RGB, RGBA), compression, filter, interlace (PNG, section 11.2.1)."""
_TURNED: Final = range(2, 9)
"""EXIF orientations other than upright."""


def decode(
    data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, warn: Warn | None = None
) -> Samples:
    """Decode one picture, upright, to 8-bit samples.

    The first frame of an animation or page of a document counts, EXIF orientation is applied, and
    16-bit samples are scaled to 8.

    Args:
        data: a file in one of `FORMATS`.
        max_pixels: width × height that the header may announce; checked before decoding.
        warn: told when the picture is turned.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if not data:
        raise UnreadableImageError("the picture is empty: 0 bytes")
    if _is_plain_png(data):
        return _by_libspng(data, max_pixels)
    return _by_pillow(data, max_pixels, warn)


def encode_png(samples: Samples) -> bytes:
    """A PNG file of `[h, w]` luminance or `[h, w, 3]` RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, "PNG")
    return file.getvalue()


def _is_plain_png(data: bytes) -> bool:
    """Whether this is a PNG of 8-bit gray, RGB or RGBA, not interlaced, that needs no more steps.

    That is what clients send most, and libspng decodes a small one four times faster than Pillow,
    whose time goes into Python (`benchmarks/codecs.py`). All other pictures are Pillow's.
    """
    return (
        data[:16] == _PNG_START  # signature, then the header chunk
        and data[24:29] in _PLAIN_HEADERS
        and b"eXIf" not in data
        and b"tRNS" not in data
    )


def _by_libspng(data: bytes, max_pixels: int) -> Samples:
    width, height = struct.unpack_from(">II", data, 16)
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)
    try:
        samples: Samples = pyspng.load(data)
    except (MemoryError, RuntimeError) as error:
        raise UnreadableImageError(f"the picture is damaged: {error}") from error
    return samples


def _by_pillow(data: bytes, max_pixels: int, warn: Warn | None) -> Samples:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends (odd EXIF, trailing data) and of many pixels, which
            # are checked below against our own limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise TooManyPixelsError(image.width, image.height, max_pixels)
            # Asked before loading, which turns a TIFF at once.
            if warn and image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
                warn(PictureWarning.TURNED_BY_EXIF)
            image.load()
            return _eight_bit(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"not a picture that is read here; send one of {', '.join(FORMATS)}"
        ) from error
    except TooManyPixelsError:
        raise
    # What Pillow's decoders raise on damaged files is not one class: OSError for truncation,
    # SyntaxError and ValueError for bad chunks, and struct, index and overflow errors besides.
    except Exception as error:
        raise UnreadableImageError(f"the picture is damaged: {error}") from error


def _eight_bit(image: Image.Image) -> Samples:
    """Any of Pillow's modes → L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow's own conversion clips 16-bit samples at 255 instead of scaling them.
        wide = np.asarray(image, dtype=np.int64)
        return (wide.clip(0, 65535) >> 8).astype(np.uint8)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        else:
            image = image.convert("L" if image.mode in ("1", "F") else "RGB")
    return np.asarray(image)
