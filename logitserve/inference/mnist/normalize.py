"""People's pictures of a handwritten digit → pictures made the way MNIST was made.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
section III.A: the digit is scaled, aspect kept and antialiased, to fit a 20×20 box, and that box
is placed in a 28×28 field so that the center of mass is at the center; light ink on black.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from logitserve.inference.mnist import segment
from logitserve.inference.mnist.form import Box, box_side, drift, extent, is_normalized
from logitserve.inference.picture_warnings import PictureWarning, Warn

Picture = npt.NDArray[np.uint8]

WORKING_SIDE: Final = 128
"""Pixels. What is larger is shrunk to this: six times the final digit, enough to antialias."""
STROKE: Final = (1.7, 4.0)
"""Pixels of the 28×28 picture: stroke widths, by `_stroke_width`, that are left alone (measured
percentiles of MNIST: 5th 1.6, 25th 2.0, median 2.4, 75th 2.8, 95th 3.6, 99th 4.3)."""
FINE: Final = 4
"""Strokes are thickened and thinned at this multiple of the final resolution."""


def normalize(
    luminance: Picture,
    opacity: Picture | None,
    *,
    height: int = 28,
    width: int = 28,
    warn: Warn | None = None,
) -> Picture:
    """Make a picture of one handwritten digit look like MNIST.

    Paper may be lighter or darker than the ink, unevenly lit, noisy or transparent. A picture
    that is made like MNIST already is returned unchanged.

    Args:
        luminance: uint8, `[h, w]`, at least 1×1.
        opacity: uint8, `[h, w]`, 255 is opaque; None when the picture has no alpha channel.
        height: of the result.
        width: of the result.
        warn: told when ink and paper change sides, transparency goes, or no ink is found.

    Returns:
        uint8, `[height, width]`, light ink on 0; all 0 when no ink is found.
    """
    picture = luminance
    if not (opacity is None or is_opaque(opacity)):
        picture = _flattened(luminance, opacity)
        if warn:
            warn(PictureWarning.TRANSPARENCY_FLATTENED)
    if picture.shape == (height, width) and is_normalized(picture):
        return picture
    overview = _shrunk(picture)
    scene = segment.observe(overview)
    ink = segment.separate(overview, scene)
    if overview.shape != picture.shape:
        # A small digit on a large sheet is looked at again from near.
        ink = segment.separate(_shrunk(_cropped(picture, _box_of(ink), overview.shape)), scene)
    left, top, right, bottom = _box_of(ink)
    if left == right:
        if warn:
            warn(
                PictureWarning.BLANK if segment.is_blank(picture) else PictureWarning.NOTHING_FOUND
            )
        return np.zeros((height, width), np.uint8)
    if warn and scene.dark_ink:
        warn(PictureWarning.INVERTED)
    digit = ink[top:bottom, left:right]
    return _centered(_scaled(digit, box_side(height, width)), height, width)


def is_opaque(opacity: Picture) -> bool:
    """Whether an alpha channel, uint8 `[h, w]`, lets nothing through."""
    return bool(opacity.min() == 255)


def _flattened(luminance: Picture, opacity: Picture) -> Picture:
    """Put a transparent picture on paper that its ink stands out from."""
    alpha = opacity.astype(np.float32) / 255
    if not alpha.any():
        return np.zeros_like(luminance)
    mean = float(np.average(luminance, weights=alpha))
    spread = float(np.sqrt(np.average((luminance - mean) ** 2, weights=alpha)))
    if alpha.mean() > 0.5 and spread > 32:
        # An opaque sheet with ink on it and transparent margins: more of the same paper.
        paper = segment.quantile(luminance[opacity >= opacity.max() / 2], 0.5)
    else:
        paper = 255.0 if mean < 128 else 0.0
    return np.rint(alpha * luminance + (1 - alpha) * paper).astype(np.uint8)


def _shrunk(picture: Picture) -> Picture:
    """At most `WORKING_SIDE` pixels on the longer side, by averaging whole blocks."""
    factor = -(-max(picture.shape) // WORKING_SIDE)
    if factor == 1:
        return picture
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).reduce(factor))


def _box_of(ink: Picture) -> Box:
    """The smallest box around the ink; all 0 when there is none."""
    present = ink > ink.max() // 8
    if not present.any():
        return 0, 0, 0, 0
    return extent(present.tobytes(), present.T.tobytes(), *present.shape)


def _cropped(picture: Picture, box: Box, shape: tuple[int, ...]) -> Picture:
    """The part of a picture that a box in its overview of that shape shows, with some paper."""
    left, top, right, bottom = box
    if left == right:
        return picture
    scale = max(picture.shape[0] / shape[0], picture.shape[1] / shape[1])
    margin = 2 + max(right - left, bottom - top) // 8
    rows = slice(int(max(0, top - margin) * scale), int((bottom + margin) * scale) + 1)
    columns = slice(int(max(0, left - margin) * scale), int((right + margin) * scale) + 1)
    return picture[rows, columns]


def _scaled(ink: Picture, side: int) -> Picture:
    """Scale ink to `side` on the longer side, with a stroke width as in MNIST."""
    scale = side / max(ink.shape)
    stroke = _stroke_width(ink) * scale * 20 / side
    wanted = float(np.clip(stroke, *STROKE))
    if abs(wanted - stroke) * FINE >= 1:
        ink = _reweighted(_resized(ink, side * FINE), round((wanted - stroke) * FINE / 2))
    digit = _stretched(_resized(_trimmed(ink), side))
    # Faint ends of strokes may have been rounded away: then the rest has to fill the box.
    rest = _trimmed(digit)
    return digit if rest.shape == digit.shape else _stretched(_resized(rest, side))


def _trimmed(ink: Picture) -> Picture:
    left, top, right, bottom = _box_of(ink)
    return ink[top:bottom, left:right]


def _stroke_width(ink: Picture) -> float:
    """Mean width of the strokes in pixels: twice the area over the length of the outline."""
    field = np.pad(ink.astype(np.float32), 1)
    down, across = np.diff(field, axis=0)[:, :-1], np.diff(field, axis=1)[:-1]
    return float(2 * field.sum() / np.hypot(down, across).sum())


def _reweighted(ink: Picture, change: int) -> Picture:
    """Move the outline of the strokes outward by so many pixels, or inward if negative."""
    if change == 0:
        return ink
    image = Image.fromarray(np.pad(ink, abs(change)))
    size = 2 * abs(change) + 1
    kernel = ImageFilter.MaxFilter(size) if change > 0 else ImageFilter.MinFilter(size)
    changed = np.asarray(image.filter(kernel))
    return changed if changed.max() == ink.max() else ink


def _resized(ink: Picture, side: int) -> Picture:
    """Scale to `side` on the longer side, aspect kept and antialiased."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(ink)).resize(size, Image.Resampling.BICUBIC)
    )


def _stretched(ink: Picture) -> Picture:
    """Full ink to 255."""
    full = segment.quantile(ink[ink >= ink.max() / 2], 0.5)
    stretched: Picture = np.rint(ink * (255 / full)).clip(0, 255).astype(np.uint8)
    return stretched


def _centered(digit: Picture, height: int, width: int) -> Picture:
    """Place the digit so that its center of mass is at the center, as far as it fits."""
    rows, columns = digit.shape
    field = np.zeros((height, width), np.uint8)
    field[:rows, :columns] = digit
    down, across = drift(field, (0, 0, columns, rows))
    return np.roll(field, (round(down), round(across)), axis=(0, 1))
