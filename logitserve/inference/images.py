"""Encoded images ↔ arrays. The only place where image files are decoded.

libspng decodes PNG: a small one four times faster than Pillow (`benchmarks/codecs.py`). Pillow
decodes the other formats, and palettes with transparency. Section numbers are those of the PNG
specification (third edition, https://www.w3.org/TR/png-3/).
"""

import io
import re
import struct
import warnings
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError
from pyspng import c as libspng  # its `load` costs a tenth more

from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.image_warnings import ImageWarning, Warn

Samples = npt.NDArray[np.uint8]
"""`[h, w]` luminance, `[h, w, 2]` luminance and opacity, `[h, w, 3]` RGB or `[h, w, 4]` RGBA."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
DEFAULT_MAX_PIXELS: Final = 50_000_000
MOST_PIXELS: Final = 178_956_970
"""Pillow opens no image with more, whatever is allowed (twice its `MAX_IMAGE_PIXELS`)."""
MAX_CHUNKS: Final = 65_536
"""Of a PNG. Each costs a turn of Python; encoders cut pixels into chunks of some kilobytes."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_STARTS: Final = (_SIGNATURE[:4], b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM")
"""How files of those formats begin."""
_HEADER: Final = struct.Struct(">I4sIIBBBBBI")
"""Length, name, width, height, bit depth, color type, three methods, CRC (11.2.1)."""
_HEADER_END: Final = len(_SIGNATURE) + _HEADER.size
_FRAME: Final = 12
"""Bytes of a chunk around its content: length, name, CRC (5.3)."""
_END: Final = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_OPTIONAL: Final = 0x20
"""The bit of a chunk name's first letter that marks an ancillary chunk (5.4)."""
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS: Final[dict[int, Any]] = {
    _GRAY: np.s_[:, :, 0],
    _RGB: np.s_[:, :, :3],
    _GRAY_ALPHA: np.s_[:, :, ::3],
    _RGBA: np.s_[:],
}
"""Color type → its channels in RGBA."""
_chunk_head = struct.Struct(">I4s").unpack_from
_number = struct.Struct(">I").unpack_from


def decode(
    data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, warn: Warn | None = None
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
        warn: called when the image is turned.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    if data.startswith(_SIGNATURE):
        return _from_png(data, max_pixels, warn)
    if not data:
        raise UnreadableImageError("the image is empty: 0 bytes")
    return _by_pillow(data, FORMATS[1:], max_pixels, warn)


def encode_png(samples: Samples) -> bytes:
    """A PNG file of `[h, w]` luminance or `[h, w, 3]` RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, "PNG")
    return file.getvalue()


class _Header(NamedTuple):
    width: int
    height: int
    bit_depth: int
    color_type: int


def _from_png(data: bytes, max_pixels: int, warn: Warn | None) -> Samples:
    header = _png_header(data[len(_SIGNATURE) : _HEADER_END])
    width, height, bit_depth, color_type = header
    if width * height > max_pixels:
        raise TooManyPixelsError(width, height, max_pixels)
    pixels, others = _walk(data)
    if not others and bit_depth <= 8:
        return _by_libspng(data)
    if color_type == _PALETTE:
        palette = data[others.get(b"PLTE", slice(0))]
        if bit_depth > 8 or len(palette) not in range(_FRAME + 3, _FRAME + 3 * 256 + 1, 3):
            raise _damaged("its palette is missing, or is not one")
    # Text, color profiles and the other frames of an APNG are never unpacked.
    used = (b"PLTE", b"tRNS") if color_type == _PALETTE else ()
    chunks = [others[name] for name in used if name in others] + pixels
    file = b"".join([data[:_HEADER_END], *[data[chunk] for chunk in chunks], _END])
    transparency = data[others[b"tRNS"]][8:-4] if b"tRNS" in others else b""
    if transparency and color_type == _PALETTE:
        samples = _by_pillow(file, FORMATS[:1], max_pixels, None)
    elif transparency and color_type in (_GRAY, _RGB):
        samples = _with_opacity(file, header, transparency)
    else:
        samples = _by_libspng(file) if bit_depth <= 8 else _narrowed(file, color_type)
    if b"eXIf" not in others:
        return samples
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.info["exif"] = data[others[b"eXIf"]][8:-4]
    return np.asarray(_upright(image, warn))


@lru_cache(maxsize=64)  # most images are of one kind
def _png_header(chunk: bytes) -> _Header:
    if len(chunk) == _HEADER.size:
        length, name, width, height, bit_depth, color_type, *_, checksum = _HEADER.unpack(chunk)
        if (length, name) == (13, b"IHDR"):
            if crc32(chunk[4:-4]) != checksum:
                raise _damaged("the checksum of its chunk 'IHDR' is wrong")
            return _Header(width, height, bit_depth, color_type)
    raise _damaged("it does not begin with a header")


def _walk(data: bytes) -> tuple[list[slice], dict[bytes, slice]]:
    """Where the IDAT chunks stand, and the others by name, up to IEND; whole, with right CRCs."""
    pixels: list[slice] = []
    others: dict[bytes, slice] = {}
    size, position, previous = len(data), _HEADER_END, b""
    for _ in range(MAX_CHUNKS):
        if data[position : position + _FRAME] == _END:
            return pixels, others
        if position + _FRAME > size:
            raise _damaged("it is truncated")
        length, name = _chunk_head(data, position)
        end = position + _FRAME + length
        if end > size:
            raise _damaged("it is truncated")
        if crc32(data[position + 4 : end - 4]) != _number(data, end - 4)[0]:
            raise _damaged(f"the checksum of its chunk {_printable(name)} is wrong")
        if name == b"IDAT":
            if pixels and previous != name:
                raise _damaged("other chunks stand between those with its pixels")
            pixels.append(slice(position, end))
        elif name != b"IEND" and (name[0] & _OPTIONAL or name == b"PLTE"):
            others[name] = slice(position, end)
        else:
            raise _damaged(f"its chunk {_printable(name)} does not belong there")
        position, previous = end, name
    raise _damaged(f"it has more than {MAX_CHUNKS} chunks")


def _by_libspng(data: bytes, form: Any = libspng.SPNG_FMT_AUTO) -> npt.NDArray[Any]:
    try:
        samples: npt.NDArray[Any] = libspng.spng_decode_image_bytes(data, form)
    except (MemoryError, RuntimeError) as error:
        _, _, reason = str(error).rpartition(": ")  # the name of the library and its function
        raise _damaged(reason) from error
    return samples[:, :, 0] if samples.shape[2] == 1 else samples


def _narrowed(file: bytes, color_type: int) -> Samples:
    """16-bit samples as 8-bit ones."""
    rgba = _by_libspng(file, libspng.SPNG_FMT_RGBA8)
    return np.ascontiguousarray(rgba[_CHANNELS.get(color_type, np.s_[:])])


def _with_opacity(file: bytes, header: _Header, transparency: bytes) -> Samples:
    """Gray or RGB with the one color transparent that the tRNS chunk names (11.3.1.1)."""
    wide = _by_libspng(file, libspng.SPNG_FMT_RGBA16)
    if len(transparency) != (2 if header.color_type == _GRAY else 6):
        raise _damaged("its chunk 'tRNS' has another length than it must have")
    highest = 2**header.bit_depth - 1
    color = (np.frombuffer(transparency, ">u2") & highest) * (65535 // highest)
    wide[:, :, 3][(wide[:, :, :3] == color).all(axis=2)] = 0
    opaque = _CHANNELS[_GRAY_ALPHA if header.color_type == _GRAY else _RGBA]
    return np.ascontiguousarray((wide[opaque] >> 8).astype(np.uint8))


def _by_pillow(
    data: bytes, formats: tuple[str, ...], max_pixels: int, warn: Warn | None
) -> Samples:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends (odd EXIF, trailing data) and of many pixels, which
            # are checked below against our own limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=formats)
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
        raise _damaged(str(error)) from error


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


def _damaged(reason: str) -> UnreadableImageError:
    return UnreadableImageError(f"the image is damaged: {reason}")


def _printable(name: bytes) -> str:
    return repr(name)[1:]
