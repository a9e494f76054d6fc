"""Convert images of a handwritten digit into MNIST's format.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
section III.A: the digit is scaled with antialiasing to fit a 20×20 box, keeping its aspect ratio,
and placed in a 28×28 field with its center of mass at the center; light ink on black.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from logitserve.inference.image_warnings import ImageWarning, Warn
from logitserve.inference.mnist import components, handwriting, pixels, segment, strokes, written
from logitserve.inference.mnist.form import are_normalized, box_side
from logitserve.inference.mnist.segment import array, pillow

Gray = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom are exclusive."""

WORKING_SIDE: Final = 96
"""Pixels. Larger images are shrunk to this size (the overview)."""
ENOUGH: Final = 48
"""Pixels, over twice those of the final digit: handwriting that is smaller in the overview is
cropped from the image itself."""
NEAR_SIDE: Final = 144
"""Pixels. A crop of the image is shrunk to this size."""
STROKE: Final = (1.7, 4.0)
"""Pixels of the 28×28 image: range of stroke widths, by `_stroke_width`, that are not changed
(measured percentiles of MNIST: 5th 1.6, 25th 2.0, median 2.4, 75th 2.8, 95th 3.6, 99th 4.3)."""
NEAR: Final = 0.04
"""Share of a picture's side within which ink is near it."""
CORNER: Final = 0.02
"""Share of a picture's side within which ink is in a corner."""
AWAY: Final = 0.5
"""Share of a picture's side that is empty between ink that crosses one border and the opposite
border, above which it was not cropped closely: the ink is a thing that reaches into the picture."""
MEETINGS: Final = 6
"""Maximum number of times handwriting crosses the border (measured on digits that fill it)."""
WIDEST_BAR: Final = 0.3
"""Maximum width of a bar across a picture, as a share of its longer side."""
SOFTEST: Final = 1.25
"""Maximum isoperimetric quotient / steepness of the outline (measured on digits of MNIST's training
part on disturbed sheets: 99.95 % below 1.16)."""
FINEST: Final = 28
"""Pixels of the longer side, sufficient for measuring the width of strokes."""
FINE: Final = 4
"""Supersampling factor for thickening and thinning strokes."""


def normalize(
    luminance: Gray,
    opacity: Gray | None,
    *,
    height: int = 28,
    width: int = 28,
    warn: Warn | None = None,
) -> Gray:
    """Convert an image of one handwritten digit into MNIST's format.

    Paper may be lighter or darker than the ink, unevenly lit, noisy or transparent. An image that
    is already in MNIST's format is returned unchanged.

    Args:
        luminance: uint8, `[h, w]`, at least 1×1.
        opacity: uint8, `[h, w]`, 255 is opaque; None if the whole image is opaque.
        height: height of the result.
        width: width of the result.
        warn: called if colors are inverted, transparency is removed, or no ink is found.

    Returns:
        uint8, `[height, width]`, light ink on 0; all 0 if no ink is found.
    """
    image = luminance
    if opacity is not None:
        image = _flattened(luminance, opacity)
        if warn:
            warn(ImageWarning.TRANSPARENCY_FLATTENED)
    if image.shape == (height, width) and are_normalized(image[np.newaxis])[0]:
        return image
    overview = _shrunk(image)
    scene = segment.observe(overview, image.shape)
    ink = whole = everything = segment.separate(overview, scene)
    left_out = False
    if scene.photograph:
        found, left_out = handwriting.find(whole)
        whole = whole * found.view(np.uint8)
        ink = _from_near(image, whole, found, scene)
    left, top, right, bottom = _box_of(ink)
    if left == right:
        if warn:
            warn(ImageWarning.BLANK if segment.is_blank(image) else ImageWarning.NOTHING_FOUND)
        return np.zeros((height, width), np.uint8)
    digit = _scaled(np.ascontiguousarray(ink[top:bottom, left:right]), box_side(height, width))
    if warn and left_out:
        warn(ImageWarning.OTHER_INK)
    if warn and (
        _runs_off(whole)
        or written.is_of_shapes(digit)
        or (left_out and written.goes_on(whole, everything))
        or (
            _is_light(digit, whole, overview, scene)
            if scene.photograph
            else not written.is_in_one(whole)
        )
    ):
        warn(ImageWarning.CUT_OFF)
    if warn and scene.dark_ink:
        warn(ImageWarning.INVERTED)
    return pixels.centered(digit, height, width)


def _from_near(image: Gray, ink: Gray, found: handwriting.Mask, scene: segment.Scene) -> Gray:
    """Return the ink of an overview, or of the part of the image with the ink if it is small."""
    scale = -(-max(image.shape) // max(ink.shape))
    if scale == 1:
        return ink
    left, top, right, bottom = pixels.bounding_box(found.view(np.uint8), 2)
    if not 0 < max(right - left, bottom - top) < ENOUGH:
        return ink
    down, across = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
    window = (slice(at.start * scale, at.stop * scale) for at in (down, across))
    near = _shrunk(image[tuple(window)], NEAR_SIDE)
    size = near.shape[1], near.shape[0]
    mask = pillow(found[down, across].view(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return segment.separate(near, scene.within(down, across, size)) * array(mask)


def _is_light(digit: Gray, ink: Gray, image: Gray, scene: segment.Scene) -> bool:
    """Return whether a crop is uneven light: a soft and compact spot, an edge, specks, or panes.

    For panes and grids, the rarer of the image's two tones forms bars from border to border.
    """
    left, top, right, bottom = pixels.bounding_box(ink, segment.WHITE + 1)
    part = np.ascontiguousarray(ink[top:bottom, left:right])
    width = _stroke_width(part)
    if not (written.is_in_one(part) and written.stands_out(image, part, (top, left), scene, width)):
        return True
    mass, outline, squares = strokes.slopes(digit)
    compactness = 4 * np.pi * 255 * mass / outline**2  # 1 for a disk
    steepness = squares / (255 * outline)
    if compactness > SOFTEST * steepness:
        return True
    rarer = pixels.rarer_tone(image).view(np.bool_)
    return len(handwriting.lines(rarer, widest=WIDEST_BAR)) >= 2


def _runs_off(ink: Gray) -> bool:
    """Return whether ink reaches the border like shadows, folds, tables and ruled lines.

    It lies in two corners, crosses the border in many places, crosses one border far from the
    opposite one, or is one straight bar from side to side. Handwriting that fills the picture, or
    was cropped closely, does none of these.
    """
    present = components.inked(ink, handwriting.INK).view(np.bool_)
    if not components.sides_with_ink(present.view(np.uint8), 1, 1):
        return False
    height, width = present.shape
    edges = (present[0], present[-1], present[:, 0], present[:, -1])
    if sum(int(edge[0]) + int((edge[1:] > edge[:-1]).sum()) for edge in edges) > MEETINGS:
        return True
    down, across = (max(1, round(CORNER * side)) for side in (height, width))
    ends = [
        part[:, side]
        for part in (present[:down], present[-down:])
        for side in (slice(across), slice(-across, None))
    ]
    if sum(bool(end.any()) for end in ends) >= 2:
        return True
    left, top, right, bottom = _box_of(ink)
    gaps = np.array([left / width, top / height, 1 - right / width, 1 - bottom / height])
    reaches_in = bool((np.roll(gaps, 2)[gaps < CORNER] >= AWAY).any())
    if reaches_in or len(handwriting.lines(present, widest=WIDEST_BAR)) >= 2:
        return True  # crossed bars, as of a window
    if (gaps <= NEAR).sum() < 2 or max(height, width) > components.CLOSE * min(height, width):
        return False  # a 1 that reaches one side, or was cropped closely
    full = ink > ink.max() // 2  # without the noise beside a faint line
    return written.is_bar(present, written.BAR) or written.is_bar(full, written.FINE)


def _flattened(luminance: Gray, opacity: Gray) -> Gray:
    """Composite a transparent image onto paper that contrasts with its ink."""
    bands = Image.fromarray(luminance), Image.fromarray(opacity)
    overview = np.asarray(Image.merge("LA", bands).reduce(_factor(luminance, WORKING_SIDE)))
    gray, alpha = overview[:, :, 0].astype(np.float32), overview[:, :, 1].astype(np.float32)
    if not alpha.any():
        return np.zeros_like(luminance)
    mean = float(np.average(gray, weights=alpha))
    spread = float(np.sqrt(np.average((gray - mean) ** 2, weights=alpha)))
    if alpha.mean() > segment.WHITE / 2 and spread > 32:
        # An opaque sheet with ink and transparent margins: the margins become paper.
        paper = segment.quantile(gray[alpha >= alpha.max() / 2], 0.5)
    else:
        paper = float(segment.WHITE) if mean < 128 else 0.0
    return np.asarray(
        Image.composite(bands[0], Image.new("L", bands[0].size, round(paper)), bands[1])
    )


def _factor(image: Gray, most: int) -> int:
    """Return the factor that shrinks an image to at most `most` pixels on the longer side."""
    longest: int = max(image.shape)
    return -(-longest // most)


def _shrunk(image: Gray, most: int = WORKING_SIDE) -> Gray:
    """Shrink to at most `most` pixels on the longer side, by averaging whole blocks."""
    factor = _factor(image, most)
    image = np.ascontiguousarray(image)
    return image if factor == 1 else pixels.reduced(image, factor)


def _box_of(ink: Gray) -> Box:
    """Return the bounding box of the ink; all 0 without ink."""
    return pixels.bounding_box(ink, handwriting.INK)


def _scaled(ink: Gray, side: int) -> Gray:
    """Scale ink to `side` pixels on the longer side, with a stroke width as in MNIST."""
    scale = side / max(ink.shape)
    fine = max(1, max(ink.shape) // FINEST)
    image = pillow(ink)
    small = pixels.reduced(ink, fine) if fine > 1 else ink
    stroke = _stroke_width(small) * fine * scale * 20 / side
    wanted = min(max(stroke, STROKE[0]), STROKE[1])
    if abs(wanted - stroke) * FINE >= 1:
        change = round((wanted - stroke) * FINE / 2)
        image = pillow(_trimmed(_reweighted(_resized(image, side * FINE), change)))
    digit = pixels.stretched(array(_resized(image, side)))
    # If faint ends of strokes were rounded to 0, the rest must fill the box.
    rest = _trimmed(digit)
    if rest.shape == digit.shape:
        return digit
    return pixels.stretched(array(_resized(pillow(rest), side)))


def _trimmed(ink: Gray) -> Gray:
    left, top, right, bottom = _box_of(ink)
    return np.ascontiguousarray(ink[top:bottom, left:right])


def _stroke_width(ink: Gray) -> float:
    """Return the mean stroke width in pixels: twice the area / the length of the outline."""
    mass, outline, _ = strokes.slopes(ink)
    return 2 * mass / outline


def _reweighted(image: Image.Image, change: int) -> Gray:
    """Move the outline of the strokes outward by `change` pixels, or inward if negative."""
    ink = array(image)
    if change == 0:
        return ink
    size = 2 * abs(change) + 1
    kernel = ImageFilter.MaxFilter(size) if change > 0 else ImageFilter.MinFilter(size)
    changed = array(ImageOps.expand(image, abs(change)).filter(kernel))
    return changed if changed.max() == ink.max() else ink


def _resized(image: Image.Image, side: int) -> Image.Image:
    """Scale to `side` pixels on the longer side with antialiasing, keeping the aspect ratio."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
