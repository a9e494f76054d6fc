"""Pictures → the uint8 array that the network takes. The only place where pictures are decoded."""

import io
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from inference import handwriting
from inference.card import Fit, InputSpec
from inference.errors import PixelArrayError, TooManyPixelsError, UnreadableImageError

Pixels = npt.NDArray[np.uint8]

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
DEFAULT_MAX_PIXELS: Final = 50_000_000


def decode(data: bytes, spec: InputSpec, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Pixels:
    """Decode one encoded picture and fit it to the network's input.

    The first frame of an animation or page of a document counts, EXIF orientation is applied,
    16-bit samples are scaled to 8, and transparency is flattened.

    Args:
        data: a file in one of `FORMATS`.
        spec: what the network takes.
        max_pixels: width × height that the header may announce; checked before decoding.

    Returns:
        uint8, `[height, width, channels]` of the spec.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    return _fitted(_opened(data, max_pixels), spec)


def from_array(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> Pixels:
    """Fit a picture that is already an array, the same way as an encoded one.

    Args:
        pixels: uint8, `[h, w]` or `[h, w, 1]` luminance, `[h, w, 3]` RGB, `[h, w, 4]` RGBA.
        spec: what the network takes.

    Raises:
        PixelArrayError: another shape, or no pixels at all.
    """
    shape = pixels.shape
    if len(shape) == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    elif not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise PixelArrayError(
            f"a picture of shape {list(shape)} is not [height, width] or "
            "[height, width, channels] with 1, 3 or 4 channels"
        )
    if pixels.size == 0:
        raise PixelArrayError("a picture without pixels: its height or width is 0")
    return _fitted(Image.fromarray(np.ascontiguousarray(pixels)), spec)


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """Decode to a Pillow image of 8-bit samples: mode L, LA, RGB or RGBA, the right way up."""
    if not data:
        raise UnreadableImageError("the picture is empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends (odd EXIF, trailing data) and of many pixels, which
            # are checked below against our own limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise TooManyPixelsError(image.width, image.height, max_pixels)
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


def _eight_bit(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes → L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow's own conversion clips 16-bit samples at 255 instead of scaling them.
        samples = np.asarray(image, dtype=np.int64)
        return Image.fromarray((samples.clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "F") else "RGB")


def _fitted(image: Image.Image, spec: InputSpec) -> Pixels:
    if spec.fit is Fit.DIGIT:
        opacity = np.asarray(image.getchannel("A")) if "A" in image.mode else None
        # LA and RGBA drop their alpha here, which is what `opacity` carries.
        luminance = np.asarray(image.convert("L"))
        digit = handwriting.normalize(luminance, opacity, height=spec.height, width=spec.width)
        return digit.reshape(spec.shape)
    if "A" in image.mode:
        image = _on_white(image)
    image = image.convert("L" if spec.channels == 1 else "RGB")
    size = (spec.width, spec.height)
    if image.size != size:
        # Pillow's bilinear widens with the scale, so that shrinking does not alias.
        if spec.fit is Fit.PAD:
            image = ImageOps.pad(image, size, Image.Resampling.BILINEAR)
        else:
            image = image.resize(size, Image.Resampling.BILINEAR)
    pixels: Pixels = np.asarray(image).reshape(spec.shape)
    return pixels


def _on_white(image: Image.Image) -> Image.Image:
    """Flatten transparency onto white, as a page or a sheet of paper would show it."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
