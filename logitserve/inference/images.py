"""Encode and decode images. The only place where image files are decoded.

`png_samples` decodes PNG; Pillow decodes the other formats.
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

from logitserve.inference import avif, png, png_samples
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.image_warnings import ImageWarning, Warn

Samples = npt.NDArray[np.uint8]
"""`[h, w]` luminance, `[h, w, 2]` luminance and alpha, `[h, w, 3]` RGB or `[h, w, 4]` RGBA."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
PICTURE_SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif"}
    | {".bmp", ".dib", ".gif", ".tif", ".tiff"}
)
"""Suffixes of pictures in folders and tar files; a file that is named may have any."""
DEFAULT_MAX_PIXELS: Final = 50_000_000
MOST_PIXELS: Final = 178_956_970
"""Pillow's hard limit (twice its `MAX_IMAGE_PIXELS`), whatever `max_pixels` is."""
JPEG_START: Final = b"\xff\xd8\xff"
_STARTS: Final = (png.SIGNATURE[:4], JPEG_START, b"RIFF", b"BM", b"GIF8", b"II", b"MM")
"""Signatures of these formats."""
_HEIF: Final = b"ftyp"
"""Type of the first box of AVIF and HEIC files."""
_HEIC: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BYTES: Final = 8
"""Bytes per pixel of each AVIF frame, besides those below (measured: 17.3 of 36 in total with
alpha; frames of 16-bit samples take 3 more)."""
_PILLOW_BYTES: Final = 20
"""Bytes per pixel while Pillow decodes and converts an image (measured: 18.2 for WebP)."""
_COEFFICIENT_BYTES: Final = 2
"""Bytes per sample of a JPEG with several scans, which libjpeg holds in memory."""
_AVERAGED: Final = ("L", "LA", "RGB", "RGBA", "CMYK")
_STRIP_ROWS: Final = 16
"""Rows of the result averaged at a time."""
_SCAN: Final = b"\xff\xda"
"""Marker of a JPEG scan (ITU-T T.81, B.1.1.3); in data, 0xff is followed by a zero."""


def decode(
    data: bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    needed: int | None = None,
    gray: bool = False,
    warn: Warn | None = None,
) -> Samples:
    """Decode one image to upright 8-bit samples.

    The first frame of an animation is used (the default image of an APNG), and the first page of a
    document. EXIF orientation is applied; 16-bit samples are scaled to 8. Gamma and color profiles
    are not applied; CMYK in a JPEG is assumed to be inverted, as in browsers.

    The checksums of a PNG are verified. Other formats have none, so damage in the middle may
    decode to wrong pixels; truncation is refused in each.

    Args:
        data: a file in one of `FORMATS`; trailing data is ignored.
        max_pixels: limit of width × height in the header; checked before decoding.
        needed: minimum of the shorter side in pixels; an image at least twice as large may be
            returned smaller, but not below it. None: full size.
        gray: decode only the luminance of a JPEG, which halves the work.
        warn: called when the image is rotated or mirrored.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if data.startswith(png.SIGNATURE):
        return _from_png(data, max_pixels, warn)
    if not data:
        raise UnreadableImageError("the image is empty: 0 bytes")
    return _by_pillow(data, max_pixels, needed, warn, gray=gray)


def memory(data: bytes, *, max_pixels: int, needed: int | None = None) -> int:
    """Return the maximum memory in bytes for decoding and fitting; 0 for what `decode` refuses."""
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
    """Shrink a large image by an integer factor; its shorter side keeps at least `needed` pixels.

    Each pixel is the mean of a block, weighted by alpha if there is any. Needs little more memory
    than the result.
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
    """Average blocks as `averaged` does; modes without means are left unchanged."""
    factor = 1 if needed is None else min(image.size) // needed
    if factor > 1 and image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.reduce(factor) if factor > 1 and image.mode in _AVERAGED else image


def _draft(image: JpegImagePlugin.JpegImageFile, needed: int | None, *, gray: bool = False) -> None:
    """Configure libjpeg to decode a JPEG at a smaller size, and without chroma."""
    mode = "L" if gray and image.mode == "RGB" else None
    size = image.size if needed is None else (needed, needed)
    if mode or needed is not None:
        image.draft(mode, size)


def encode_png(samples: Samples) -> bytes:
    """Encode `[h, w]` luminance or `[h, w, 3]` RGB as PNG."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, "PNG")
    return file.getvalue()


def _from_png(data: bytes, max_pixels: int, warn: Warn | None) -> Samples:
    header = png.header(data)
    if header.width * header.height > max_pixels:
        raise TooManyPixelsError(header.width, header.height, max_pixels)
    samples, exif = png_samples.decode(data, header)
    if not exif:
        return samples
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.info["exif"] = exif
    return np.asarray(_upright(image, warn))


def _by_pillow(
    data: bytes,
    max_pixels: int,
    needed: int | None,
    warn: Warn | None,
    *,
    gray: bool = False,
) -> Samples:
    try:
        with warnings.catch_warnings():
            # Pillow warns of repaired errors (odd EXIF, trailing data) and of many pixels, which
            # are checked below against `max_pixels`.
            warnings.simplefilter("ignore")
            if data[4:8] == _HEIF:
                _check_frames(data, max_pixels)
            image = Image.open(io.BytesIO(data), formats=FORMATS[1:])
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
    # Pillow's decoders raise various errors for damaged files: OSError for truncation,
    # SyntaxError and ValueError for bad chunks, and struct, index and overflow errors.
    except Exception as error:
        raise png.damaged(str(error)) from error


def _check_frames(data: bytes, max_pixels: int) -> None:
    """Refuse HEIC, and an AVIF with frames larger than its header says."""
    if data[8:12] in _HEIC and b"av01" not in data[:4096]:
        raise UnreadableImageError(
            "HEIC is not supported; send JPEG or AVIF (on an iPhone: Settings, Camera, Formats, "
            "Most Compatible)"
        )
    for pixels in avif.frames(data):
        if pixels > max_pixels:
            raise TooManyPixelsError(pixels, None, max_pixels)


def _size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Return width and height after decoding; a frame of a GIF may exceed its screen."""
    width, height = image.size
    for tile in image.tile:
        if tile.extents is not None:
            width, height = max(width, tile.extents[2]), max(height, tile.extents[3])
    return width, height


def _refuse_unknown(data: bytes, error: Exception) -> NoReturn:
    formats = ", ".join(FORMATS)
    if data.startswith(_STARTS):
        raise UnreadableImageError(
            "the image is damaged or truncated at its beginning, or of an unsupported variant; "
            f"send one of {formats}, in its usual form"
        ) from error
    raise UnreadableImageError(f"not a supported image; send one of {formats}") from error


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    # Unreadable EXIF has no orientation; Pillow raises various errors for it, as for pixels.
    except Exception:  # noqa: BLE001
        return False


def _upright(image: Image.Image, warn: Warn | None) -> Image.Image:
    if not _is_turned(image):
        return image
    if warn:
        warn(ImageWarning.TURNED_BY_EXIF)
    image.info.pop("exif", None)  # already applied; Pillow fails to write some of it again
    return ImageOps.exif_transpose(image)


def _from_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int, warn: Warn | None) -> Samples:
    """Decode TIFF, and refuse variants that Pillow decodes wrongly."""
    tags = image.tag_v2
    # A tile is decoded completely, even if little of it lies in the image.
    width, height = (
        int(tags.get(tag, 0)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
    )
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)
    if set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) != {1}:
        raise _unusual("samples that are signed or floating-point")
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if bits > 16:
        raise _unusual(f"{bits} bits per sample")
    if bits == 16 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and image.mode != "I;16":
        raise _unusual("planes of 16 bits per sample")
    if warn and _is_turned(image):  # before loading, which rotates it
        warn(ImageWarning.TURNED_BY_EXIF)
    image.load()
    if not image.mode.startswith("I;16"):
        return _eight_bit(image)
    # Pillow's own conversion clips samples at 255 instead of scaling them.
    samples: Samples = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    white_is_0 = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return ~samples if white_is_0 else samples


def _eight_bit(image: Image.Image) -> Samples:
    """Convert any of Pillow's modes to L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode == "La":  # premultiplied alpha
        image = image.convert("LA")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        else:
            image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def _unusual(what: str) -> UnreadableImageError:
    return UnreadableImageError(f"a TIFF with {what} is not supported; send unsigned 8-bit samples")
