"""Ink and paper told apart, whatever the light: uint8 in, ink from 0 to 255 out."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Gray = npt.NDArray[np.uint8]

LEAST_CONTRAST: Final = 10
"""Gray levels between paper and ink below which an image is blank (JPEG moves paper by 1-4)."""
EVEN_PAPER: Final = 4
"""Gray levels, 10th to 90th percentile along the border: more is uneven light."""
PHOTOGRAPH_SIDE: Final = 80
"""Pixels. Smaller images are drawings or scans: their border varies by ink and not by light."""
THUMBNAIL_SIDE: Final = 32
"""Pixels. Light is looked at in this size, where noise has been averaged away."""
WIDEST_STROKE: Final = 13
"""Pixels of the thumbnail: what is narrower is a stroke, what is wider is a shadow. As a share,
0.41, it exceeds every stroke of MNIST (measured over the digit: 99 % below 0.21, largest 0.38)."""

FAINTEST: Final = 7
"""Standard deviations of the paper's noise that ink must stand out by: among 16,384 pixels the
largest of pure noise is at 4, paper is taken to be up to 1.3 above its mean, and the estimate of
a small border is a sixth too low at times."""

COLOR_CONTRAST: Final = 2
"""How many times more a channel has to vary than luminance to be looked at instead of it."""
SPECK: Final = 0.2
"""Share of the densest ink, averaged over 1/16 of the image, below which ink is a speck."""


def _border(image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """The outermost pixels, one-dimensional: paper, but where ink touches the edge."""
    return np.concatenate(
        [image[0], image[-1], image[:, 0], image[:, -1]], dtype=np.float32, casting="unsafe"
    )


def quantile(values: npt.NDArray[np.generic], share: float) -> float:
    """`np.quantile` of at least one value, linear between two; of some hundred in a tenth of it.

    Args:
        values: one-dimensional.
        share: of the values that are below, 0 to 1.
    """
    ordered = np.sort(values)
    last = len(ordered) - 1
    position = share * last
    below = int(position)
    low, high = float(ordered[below]), float(ordered[min(below + 1, last)])
    return low + (position - below) * (high - low)


def is_blank(image: Gray) -> bool:
    """Whether an image, uint8 `[h, w]` or `[h, w, channels]`, has no more contrast than noise."""
    return bool(np.ptp(image, axis=(0, 1)).max() < LEAST_CONTRAST)


def monochrome(colors: Gray) -> Gray:
    """Colors, uint8 `[h, w, 3]`, to the gray `[h, w]` in which ink stands out from paper.

    That is luminance, but for ink and paper that differ in color and hardly in luminance, as red
    on green may: then it is the channel in which they differ most.
    """
    red, green, blue = np.moveaxis(colors, -1, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red)  # gray, of which luminance is each of the three
    image = Image.fromarray(np.ascontiguousarray(colors))
    luminance = image.convert("L")
    small = image.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    channels = np.asarray(small).std(axis=(0, 1), dtype=np.float64)
    if channels.max() > COLOR_CONTRAST * np.asarray(small.convert("L")).std(dtype=np.float64):
        return np.ascontiguousarray(colors[:, :, int(channels.argmax())])
    return np.asarray(luminance)


class Scene(NamedTuple):
    """What the whole image tells of any part of it."""

    photograph: bool
    """Light, specks and ruled lines are to be reckoned with."""
    uneven: bool
    """The light differs across the paper."""
    dark_ink: bool


def observe(image: Gray) -> Scene:
    """Look at the whole image, uint8 `[h, w]`."""
    photograph = max(image.shape) >= PHOTOGRAPH_SIDE
    uneven = photograph and _unevenness(np.asarray(_thumbnail(image))) > EVEN_PAPER
    return Scene(
        photograph=photograph,
        uneven=uneven,
        dark_ink=_is_skewed_to_dark(image) if uneven else _is_darker_inside(image),
    )


def _unevenness(thumbnail: Gray) -> float:
    """Gray levels by which the light differs along the border, but for what ink touches it."""
    border = _border(thumbnail)
    return quantile(border, 0.9) - quantile(border, 0.1)


def _is_darker_inside(image: Gray) -> bool:
    """Most of the border is paper, and ink is far from it: a small digit shifts no mean."""
    contrast = image.astype(np.float32) - quantile(_border(image), 0.5)
    return float((contrast * contrast * contrast).sum()) < 0


def _is_skewed_to_dark(image: Gray) -> bool:
    """Strokes are sparse and far from what is around them, so they skew the local contrast.

    Gradients, the edges of shadows and noise go as far to the one side as to the other.
    """
    around = Image.fromarray(image).filter(ImageFilter.GaussianBlur(max(image.shape) / 12))
    contrast = image.astype(np.float32) - np.asarray(around)
    return float((contrast * contrast * contrast).sum()) < 0  # a power costs seventy times more


def _thumbnail(image: Gray) -> Image.Image:
    thumbnail = Image.fromarray(image)
    return thumbnail.reduce(-(-max(thumbnail.size) // THUMBNAIL_SIDE))


def separate(image: Gray, scene: Scene) -> Gray:
    """Separate ink from paper: uint8, same shape, 0 on paper to 255 on full ink."""
    light_paper = image if scene.dark_ink else 255 - image
    contrast = _paper(light_paper, scene) - light_paper
    noise = _noise(contrast)
    peak = float(contrast.max())
    if peak < max(LEAST_CONTRAST, FAINTEST * noise):
        return np.zeros_like(image)
    floor = max(4 * noise, 0.05 * peak)
    full = quantile(contrast[contrast >= peak / 2], 0.5)
    ink = (((contrast - floor) / max(full - floor, 1)).clip(0, 1) * 255).astype(np.uint8)
    return _without_specks(_without_lines(ink)) if scene.photograph else ink


def _noise(contrast: npt.NDArray[np.float32]) -> float:
    """Standard deviation of the paper along the border, in gray levels.

    By the median distance from the median, both of which ink moves little while most of the border
    is paper.
    """
    border = _border(contrast)
    return 1.4826 * quantile(np.abs(border - quantile(border, 0.5)), 0.5)


def _paper(light_paper: Gray, scene: Scene) -> npt.NDArray[np.float32]:
    """What the sheet would look like without ink: float32, broadcasts against the image."""
    if scene.uneven:
        return _lit_paper(light_paper)
    # Ink may touch much of the border of a small scan, and only ever makes it darker.
    share = 0.5 if scene.photograph else 0.9
    return np.asarray(quantile(_border(light_paper), share), dtype=np.float32)


def _lit_paper(light_paper: Gray) -> npt.NDArray[np.float32]:
    """The light on the sheet: strokes are closed by a window wider than they are."""
    thumbnail = np.asarray(_thumbnail(light_paper), dtype=np.int16)
    reach = WIDEST_STROKE // 2
    # The light goes on beyond the border as it came, else closing would brighten dark corners.
    beyond = np.pad(thumbnail, reach, mode="reflect", reflect_type="odd").clip(0, 255)
    paper = closed(beyond.astype(np.uint8), reach)[reach:-reach, reach:-reach]
    size = light_paper.shape[1], light_paper.shape[0]
    smooth = Image.fromarray(np.ascontiguousarray(paper)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(smooth.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


def closed(image: Gray, reach: int) -> Gray:
    """Gray closing: what is dark, and narrower than a window that reaches so far, is filled.

    The window is a square, so rows and columns follow each other; Pillow's filters, which sort what
    is in each window, take ten times as long.
    """
    height, width = image.shape
    shifts = range(2 * reach + 1)
    for extreme in (np.maximum, np.minimum):
        padded = np.pad(image, reach, mode="edge")
        rows = extreme.reduce([padded[shift : shift + height] for shift in shifts])
        image = extreme.reduce([rows[:, shift : shift + width] for shift in shifts])
    return image


def _without_lines(ink: Gray) -> Gray:
    """Drop ruled lines: they go from edge to edge, and are fainter than the ink."""
    rows, columns = ink[:, [0, -1]].min(axis=1), ink[[0, -1]].min(axis=0)
    if not (rows.any() or columns.any()):
        return ink  # nothing goes from edge to edge
    rows = np.minimum(rows, np.percentile(ink, 20, axis=1))
    columns = np.minimum(columns, np.percentile(ink, 20, axis=0))
    line = np.maximum(rows[:, np.newaxis], columns)
    return np.where((ink > 1.5 * line) | (line > 128), ink, 0).astype(np.uint8)


def _without_specks(ink: Gray) -> Gray:
    """Drop what has little ink around it, compared to a stroke."""
    around = ImageFilter.BoxBlur(max(ink.shape) / 32)
    mass = np.asarray(Image.fromarray(ink).filter(around))
    stroke = np.where(mass > SPECK * float(mass.max()), 255, 0).astype(np.uint8)
    near_stroke = np.asarray(Image.fromarray(stroke).filter(around)) > 0
    return np.where(near_stroke, ink, 0).astype(np.uint8)
