"""Encoded pictures ↔ arrays. The only place where picture files are decoded."""

import io
import re
import warnings
from collections.abc import Mapping
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from logitserve.inference import png
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.picture_warnings import PictureWarning, Warn

Samples = npt.NDArray[np.uint8]
"""`[h, w]` luminance, `[h, w, 2]` luminance and opacity, `[h, w, 3]` RGB or `[h, w, 4]` RGBA."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
DEFAULT_MAX_PIXELS: Final = 50_000_000
MOST_PIXELS: Final = 178_956_970
"""Pillow opens no picture with more, whatever is allowed (twice its `MAX_IMAGE_PIXELS`)."""

_BY_PILLOW: Final = FORMATS[1:]
_STARTS: Final = (png.SIGNATURE[:4], b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM")
"""How files of those formats begin."""
_TURNS: Final[Mapping[object, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientations other than upright, and what makes a picture upright."""


def decode(
    data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, warn: Warn | None = None
) -> Samples:
    """Decode one picture, upright, to 8-bit samples.

    The first frame of an animation or page of a document counts (of an APNG the default image),
    EXIF orientation is applied, and 16-bit samples are scaled to 8. Gamma and color profiles are
    not applied; the CMYK of a JPEG is taken for inverted, as browsers take it.

    A PNG is checked against its checksums. The other formats have none, so what is damaged in the
    middle may decode to other pixels; what is cut off is refused in each.

    Args:
        data: a file in one of `FORMATS`; what follows its end is ignored.
        max_pixels: width × height that the header may announce; checked before decoding.
        warn: told when the picture is turned.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if not data:
        raise UnreadableImageError("the picture is empty: 0 bytes")
    if data.startswith(png.SIGNATURE):
        # libspng decodes a small one four times faster than Pillow, whose time goes into Python
        # (`benchmarks/codecs.py`), and finds more of what is broken.
        samples, exif = png.decode(data, max_pixels=max_pixels)
        return _turned_as(exif, samples, warn) if exif else samples
    return _by_pillow(data, max_pixels, warn)


def encode_png(samples: Samples) -> bytes:
    """A PNG file of `[h, w]` luminance or `[h, w, 3]` RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, "PNG")
    return file.getvalue()


def _by_pillow(data: bytes, max_pixels: int, warn: Warn | None) -> Samples:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends (odd EXIF, trailing data) and of many pixels, which
            # are checked below against our own limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_BY_PILLOW)
            width, height = _size(image)
            if width * height > max_pixels:
                raise TooManyPixelsError(width, height, max_pixels)
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                return _from_tiff(image, max_pixels, warn)
            image.load()
            return _eight_bit(_upright(image, warn))
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
        raise UnreadableImageError(f"the picture is damaged: {error}") from error


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
            "the picture is damaged or truncated at its beginning, or of a kind that is not read "
            f"here; send one of {formats}, in its usual form"
        ) from error
    raise UnreadableImageError(f"not a picture that is read here; send one of {formats}") from error


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # EXIF that cannot be read turns nothing; Pillow raises as many things for it as for pixels.
    except Exception:  # noqa: BLE001
        return None


def _upright(image: Image.Image, warn: Warn | None) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    if warn:
        warn(PictureWarning.TURNED_BY_EXIF)
    return image.transpose(turn)


def _turned_as(exif: bytes, samples: Samples, warn: Warn | None) -> Samples:
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.info["exif"] = exif
    return np.asarray(_upright(image, warn))


def _from_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int, warn: Warn | None) -> Samples:
    """TIFF holds more than pictures, and Pillow reads some of it wrongly rather than not."""
    tags = image.tag_v2
    # A tile is decoded whole, however little of it lies in the picture.
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
    # Asked before loading, which turns it.
    if warn and _orientation(image) in _TURNS:
        warn(PictureWarning.TURNED_BY_EXIF)
    image.load()
    if not image.mode.startswith("I;16"):
        return _eight_bit(image)
    # Pillow's own conversion clips samples at 255 instead of scaling them.
    samples: Samples = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    white_is_0 = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return ~samples if white_is_0 else samples


def _unusual(what: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"a TIFF with {what} is not read here; send unsigned samples of 8 bits"
    )


def _eight_bit(image: Image.Image) -> Samples:
    """Any of Pillow's modes → L, LA, RGB or RGBA."""
    if image.mode == "La":  # opacity multiplied into it
        image = image.convert("LA")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        else:
            image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)
