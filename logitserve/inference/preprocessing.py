"""Pictures → the uint8 array that the network takes."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from logitserve.inference import decoding
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.decoding import DEFAULT_MAX_PIXELS, Samples
from logitserve.inference.errors import PixelArrayError, TooManyPixelsError
from logitserve.inference.mnist import normalize, segment
from logitserve.inference.picture_warnings import PictureWarning, Warn

Pixels = npt.NDArray[np.uint8]

SQUASHED: Final = 1.05
"""Larger over smaller of the two scales from which a picture looks squashed."""


def decode(
    data: bytes,
    spec: InputSpec,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    warn: Warn | None = None,
) -> Pixels:
    """Decode one encoded picture and fit it to the network's input.

    Args:
        data: a file in one of `codec.FORMATS`.
        spec: what the network takes.
        max_pixels: width × height that the header may announce; checked before decoding.
        warn: told of what the sender of the picture may not expect.

    Returns:
        uint8, `[height, width, channels]` of the spec.

    Raises:
        UnreadableImageError: empty, unknown, truncated or damaged.
        TooManyPixelsError: larger than `max_pixels`.
    """
    return _fitted(decoding.decode(data, max_pixels=max_pixels, warn=warn), spec, warn)


def from_array(
    pixels: npt.NDArray[np.uint8],
    spec: InputSpec,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    warn: Warn | None = None,
) -> Pixels:
    """Fit a picture that is already an array, the same way as an encoded one.

    Args:
        pixels: uint8, `[h, w]` or `[h, w, 1]` luminance, `[h, w, 3]` RGB, `[h, w, 4]` RGBA.
        spec: what the network takes.
        max_pixels: height × width that it may have.
        warn: told of what the sender of the picture may not expect.

    Raises:
        PixelArrayError: another shape, or no pixels at all.
        TooManyPixelsError: larger than `max_pixels`.
    """
    shape = pixels.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise PixelArrayError(
            f"a picture of shape {list(shape)} is not [height, width] or "
            "[height, width, channels] with 1, 3 or 4 channels"
        )
    if pixels.size == 0:
        raise PixelArrayError("a picture without pixels: its height or width is 0")
    if shape[0] * shape[1] > max_pixels:
        raise TooManyPixelsError(shape[1], shape[0], max_pixels)
    return _fitted(pixels[:, :, 0] if shape[2:] == (1,) else pixels, spec, warn)


def _fitted(samples: Samples, spec: InputSpec, warn: Warn | None) -> Pixels:
    fit = _digit if spec.fit is Fit.DIGIT else _picture
    return fit(samples, spec, warn).reshape(spec.shape)


def _digit(samples: Samples, spec: InputSpec, warn: Warn | None) -> Pixels:
    luminance, opacity = samples, None
    if samples.ndim == 3:
        if samples.shape[2] in (2, 4):
            opacity = samples[:, :, -1]
        if samples.shape[2] == 3:
            luminance = segment.monochrome(samples)
        else:
            luminance = np.asarray(_image(samples).convert("L"))  # without its alpha
    return normalize.normalize(luminance, opacity, height=spec.height, width=spec.width, warn=warn)


def _picture(samples: Samples, spec: InputSpec, warn: Warn | None) -> Pixels:
    if samples.shape == (spec.height, spec.width) and spec.channels == 1:
        if warn and segment.is_blank(samples):
            warn(PictureWarning.BLANK)
        return samples
    image = _image(samples)
    if image.mode in ("LA", "RGBA"):
        image = _on_white(image, warn)
    image = image.convert("L" if spec.channels == 1 else "RGB")
    size = (spec.width, spec.height)
    if warn and spec.fit is Fit.STRETCH and _is_squashed(image.size, size):
        warn(PictureWarning.SQUASHED)
    if warn and segment.is_blank(np.asarray(image)):
        warn(PictureWarning.BLANK)
    if image.size != size:
        # Pillow's bilinear widens with the scale, so that shrinking does not alias.
        if spec.fit is Fit.PAD:
            image = ImageOps.pad(image, size, Image.Resampling.BILINEAR)
        else:
            image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _image(samples: Samples) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(samples))


def _is_squashed(old: tuple[int, int], new: tuple[int, int]) -> bool:
    across, down = new[0] / old[0], new[1] / old[1]
    return max(across, down) > SQUASHED * min(across, down)


def _on_white(image: Image.Image, warn: Warn | None) -> Image.Image:
    """Flatten transparency onto white, as a page or a sheet of paper would show it."""
    rgba = image.convert("RGBA")
    if warn and not normalize.is_opaque(np.asarray(rgba)[:, :, 3]):
        warn(PictureWarning.TRANSPARENCY_FLATTENED)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
