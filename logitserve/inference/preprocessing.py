"""Prepare images as the uint8 input of the network."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from logitserve.inference import images as codec
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import PixelArrayError, TooManyPixelsError
from logitserve.inference.image_warnings import NOTHING_WRITTEN, ImageWarning, Warn
from logitserve.inference.images import DEFAULT_MAX_PIXELS, Samples
from logitserve.inference.mnist import normalize, pixels, segment
from logitserve.inference.mnist.form import are_normalized, are_plain

Pixels = npt.NDArray[np.uint8]

NEEDED_SIDE: Final = 192
"""Pixels: twice `normalize.WORKING_SIDE`, enough for a small digit on a large sheet."""
LONGEST: Final = 8
"""Aspect ratio above which the center is cropped before scaling."""

NOTHING_FOUND: Final = frozenset({ImageWarning.BLANK, ImageWarning.NOTHING_FOUND})

SQUASHED: Final = 1.05
"""Ratio of the two scales above which an image is reported as distorted."""


class Prepared(NamedTuple):
    """Images in the network's input format, with findings of the preprocessing."""

    images: Pixels
    """uint8, `[n, height, width, channels]`."""
    fitted: Sequence[int] = ()
    """Rows that were changed by fitting."""
    empty: Sequence[int] = ()
    """Rows without handwriting."""


def decode(
    data: bytes,
    spec: InputSpec,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    warn: Warn | None = None,
) -> Pixels:
    """Decode one encoded image as `images.decode` does, and `fit` it."""
    found: list[ImageWarning] = []
    samples = read(data, spec, max_pixels=max_pixels, needed=needed_side(spec), warn=found.append)
    fitted = _fitted(samples, spec, data, found)
    if warn:
        for warning in found:
            warn(warning)
    return fitted


def read(
    data: bytes,
    spec: InputSpec,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    needed: int | None = None,
    warn: Warn | None = None,
) -> Samples:
    """Decode one encoded image as `images.decode` does, with the channels that are needed."""
    gray = spec.fit is Fit.DIGIT
    return codec.decode(data, max_pixels=max_pixels, needed=needed, gray=gray, warn=warn)


def _fitted(
    samples: Samples, spec: InputSpec, data: bytes | None, found: list[ImageWarning]
) -> Pixels:
    """`fit` the samples of encoded data; repeat in color if the luminance has no contrast.

    Warnings are added to `found`; `data` is None if the image was sent as samples.
    """
    before = list(found)
    fitted = fit(samples, spec, found.append)
    if data is None or not data.startswith(codec.JPEG_START) or samples.ndim != 2:
        return fitted
    if spec.fit is not Fit.DIGIT or NOTHING_FOUND.isdisjoint(found):
        return fitted
    samples = codec.decode(data, needed=needed_side(spec), max_pixels=codec.MOST_PIXELS)
    if samples.ndim == 2:
        return fitted
    found[:] = before
    return fit(samples, spec, found.append)


def needed_side(spec: InputSpec) -> int:
    """Return the shorter side in pixels above which more detail makes no difference."""
    return max(NEEDED_SIDE, 2 * spec.height, 2 * spec.width)


def from_array(
    array: Pixels,
    spec: InputSpec,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    warn: Warn | None = None,
) -> Pixels:
    """Check an image array as `samples_of` does, and `fit` it."""
    return fit(samples_of(array, max_pixels=max_pixels), spec, warn)


def samples_of(array: Pixels, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Samples:
    """Check an image array; return it in the form of a decoded image.

    Args:
        array: uint8, `[h, w]` or `[h, w, 1]` luminance, `[h, w, 3]` RGB, `[h, w, 4]` RGBA.
        max_pixels: limit of height × width.

    Raises:
        PixelArrayError: another shape, or no pixels.
        TooManyPixelsError: larger than `max_pixels`.
    """
    shape = array.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise PixelArrayError(
            f"an image of shape {list(shape)} is not [height, width] or "
            "[height, width, channels] with 1, 3 or 4 channels"
        )
    if array.size == 0:
        raise PixelArrayError("the image has no pixels: its height or width is 0")
    if shape[0] * shape[1] > max_pixels:
        raise TooManyPixelsError(shape[1], shape[0], max_pixels)
    return array[:, :, 0] if shape[2:] == (1,) else array


def stack(samples: Sequence[Samples], spec: InputSpec) -> tuple[Pixels, list[int]]:
    """Stack the images of a batch; fit those that need little work.

    Args:
        samples: at least one image.
        spec: what the network takes.

    Returns:
        uint8, `[n, height, width, channels]`; and the indices of the images that `finish` must
            fit, whose rows are undefined until then.
    """
    shape = spec.shape if spec.channels > 1 else spec.shape[:2]
    if spec.fit is Fit.CROP:  # an image of the network's size is scaled too before the crop
        pending = list(range(len(samples)))
    else:
        pending = [index for index, image in enumerate(samples) if image.shape != shape]
    if len(pending) == len(samples):
        return np.zeros((len(samples), *spec.shape), np.uint8), pending
    if pending:
        blank = np.zeros(shape, np.uint8)
        samples = [image if image.shape == shape else blank for image in samples]
    try:  # joining bytes is faster than numpy (`benchmarks/costs.py`)
        joined = bytearray().join(samples)  # type: ignore[arg-type] # arrays are buffers
    except TypeError:  # an array is not contiguous
        joined = bytearray().join([np.ascontiguousarray(image).data for image in samples])
    images = np.frombuffer(joined, np.uint8).reshape(len(samples), *spec.shape)
    if spec.fit is Fit.DIGIT:  # a blank image is neither normalized nor plain
        gray = images.reshape(images.shape[:3])
        final = are_normalized(gray)
        if spec.as_sent and not final.all():
            final[~final] = ~are_plain(gray[~final])
        pending = np.flatnonzero(~final).tolist()
    return images, pending


def finish(
    images: Pixels,
    samples: Sequence[Samples],
    pending: Sequence[int],
    spec: InputSpec,
    sources: Sequence[bytes | Samples] = (),
) -> list[int]:
    """Fit the images that `stack` left pending, in place.

    `sources` are the encoded files or arrays of the samples. Returns the images without
    handwriting, if the model takes handwriting.
    """
    empty: list[int] = []
    for index in pending:
        if spec.fit is not Fit.DIGIT:
            images[index] = fit(samples[index], spec)
            continue
        found: list[ImageWarning] = []
        source = sources[index] if sources else None
        data = source if isinstance(source, bytes) else None
        images[index] = _fitted(samples[index], spec, data, found)
        if not NOTHING_WRITTEN.isdisjoint(found):
            empty.append(index)
    return empty


def prepare(
    samples: Sequence[Samples], spec: InputSpec, sources: Sequence[bytes | Samples] = ()
) -> Prepared:
    """Fit images to the network's input; the arguments are those of `finish`."""
    images, pending = stack(samples, spec)
    return Prepared(images, pending, finish(images, samples, pending, spec, sources))


def together(parts: Sequence[Prepared]) -> Prepared:
    """Concatenate several batches."""
    starts = np.cumsum([0, *(len(part.images) for part in parts)]).tolist()

    def moved(rows: int) -> list[int]:
        return [
            start + row for start, part in zip(starts, parts, strict=False) for row in part[rows]
        ]

    return Prepared(np.concatenate([part.images for part in parts]), moved(1), moved(2))


def fit(samples: Samples, spec: InputSpec, warn: Warn | None = None) -> Pixels:
    """Fit a decoded image to the network's input: uint8, `[height, width, channels]` of the spec.

    Args:
        samples: the image.
        spec: what the network takes.
        warn: called with warnings for the sender of the image.
    """
    samples = codec.averaged(samples, needed_side(spec))
    fitted = _digit if spec.fit is Fit.DIGIT else _image
    return fitted(samples, spec, warn).reshape(spec.shape)


def _digit(samples: Samples, spec: InputSpec, warn: Warn | None) -> Pixels:
    luminance, opacity = samples, None
    if samples.ndim == 3:
        if samples.shape[2] == 3:
            luminance = segment.monochrome(samples)
        else:
            opacity = None if _is_opaque(samples) else np.ascontiguousarray(samples[:, :, -1])
            luminance = _luminance(samples)
    is_sent = spec.as_sent and opacity is None and luminance.shape == (spec.height, spec.width)
    if is_sent and not are_plain(luminance[np.newaxis])[0]:
        return luminance
    return normalize.normalize(luminance, opacity, height=spec.height, width=spec.width, warn=warn)


def _luminance(samples: Samples) -> Pixels:
    """Return the luminance of an image with opacity: uint8 `[h, w]`."""
    gray = pixels.gray_of(np.ascontiguousarray(samples)) if samples.shape[2] == 4 else None
    return np.asarray(_pillow(samples).convert("L")) if gray is None else gray


def _is_opaque(samples: Samples) -> bool:
    """Whether an image with opacity, its last channel, lets nothing through."""
    pixels = np.ascontiguousarray(samples).view(f"<u{samples.shape[2]}")
    common = int(np.bitwise_and.reduce(pixels, axis=None))
    return bool(common >> 8 * (samples.shape[2] - 1) == 255)


def _image(samples: Samples, spec: InputSpec, warn: Warn | None) -> Pixels:
    if samples.shape == spec.shape[:2] and spec.channels == 1 and spec.fit is not Fit.CROP:
        if warn and segment.is_blank(samples):
            warn(ImageWarning.BLANK)
        return samples
    image = _pillow(samples)
    if image.mode in ("LA", "RGBA"):
        image = _on_white(image, warn)
    image = image.convert("L" if spec.channels == 1 else "RGB")
    size = (spec.width, spec.height)
    if warn and spec.fit is Fit.STRETCH and _is_squashed(image.size, size):
        warn(ImageWarning.SQUASHED)
    if warn and segment.is_blank(np.asarray(image)):
        warn(ImageWarning.BLANK)
    # Pillow's bilinear filter widens when it shrinks an image, which avoids aliasing.
    if spec.fit is Fit.CROP:
        image = _center(image, size, spec.shorter_side or max(size))
    elif image.size != size:
        if spec.fit is Fit.PAD:
            image = ImageOps.pad(image, size, Image.Resampling.BILINEAR)
        else:
            image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _center(image: Image.Image, size: tuple[int, int], shorter_side: int) -> Image.Image:
    """Scale the shorter side and crop the center, with torchvision's rounding."""
    shorter = min(image.size)
    if max(image.size) > LONGEST * shorter:  # the rest is cropped; scaling it wastes memory
        width, height = (min(side, LONGEST * shorter) for side in image.size)
        image = ImageOps.fit(image, (width, height), Image.Resampling.NEAREST)
    width, height = (shorter_side * side // shorter for side in image.size)
    left, top = round((width - size[0]) / 2), round((height - size[1]) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size[0], top + size[1]))


def _pillow(samples: Samples) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(samples))


def _is_squashed(old: tuple[int, int], new: tuple[int, int]) -> bool:
    across, down = new[0] / old[0], new[1] / old[1]
    return max(across, down) > SQUASHED * min(across, down)


def _on_white(image: Image.Image, warn: Warn | None) -> Image.Image:
    """Composite transparency onto white."""
    rgba = image.convert("RGBA")
    if warn and not _is_opaque(np.asarray(rgba)):
        warn(ImageWarning.TRANSPARENCY_FLATTENED)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
