"""Separate ink from paper under any lighting: uint8 in, ink from 0 to 255 out."""

from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Gray = npt.NDArray[np.uint8]

WHITE: Final = 255
LEAST_CONTRAST: Final = 10
"""Contrast of gray levels below which an image is blank (JPEG changes paper by 1-4)."""
EVEN_PAPER: Final = 4
"""Gray levels, 10th to 90th percentile along the border, above which light is uneven."""
PHOTOGRAPH_SIDE: Final = 64
"""Pixels. In smaller images (drawings, scans) the border varies because of ink, not light."""
THUMBNAIL_SIDE: Final = 32
"""Pixels. Size for the estimation of light; averaging removes noise."""
WIDEST_STROKE: Final = 13
"""Pixels of the thumbnail: narrower is a stroke, wider a shadow. As a share, 0.41, it exceeds every
stroke of MNIST (measured over the digit: 99 % below 0.21, largest 0.38)."""

FAINTEST: Final = 7
"""Noise standard deviations by which ink must differ from paper: among 16,384 pixels the maximum
of pure noise is about 4, paper may be up to 1.3 above its mean, and the estimate from a small
border is up to a sixth too low."""
ONE_SIDED: Final = 1.25
"""Minimum ratio of the contrasts on both sides of the paper; ink is on the larger side. Noise and
the edges of shadows are symmetric."""
ODD_SHARE: Final = 0.002
"""Share of a photograph's pixels that is ignored on the side opposite to ink."""
BRIGHTEST: Final = 0.0005
"""Share of a photograph's pixels that is ignored as darker than ink: single specks."""

COLOR_CONTRAST: Final = 2
"""Ratio of a channel's variation to that of luminance above which the channel is used instead."""

_CONTRASTS: Final = np.arange(-WHITE, WHITE + 1)


def pillow(image: Gray) -> Image.Image:
    """`Image.fromarray` for uint8 `[h, w]` in half of the time: small images need many calls."""
    height, width = image.shape
    buffer = np.ascontiguousarray(image)
    return Image.frombuffer("L", (width, height), buffer, "raw", "L", 0, 1)


def array(image: Image.Image) -> Gray:
    """`np.asarray` for an image of mode L in half of the time."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width)


def _border(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the outermost pixels, one-dimensional: paper, except where ink touches the edge."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def quantile(values: npt.NDArray[np.generic], share: float) -> float:
    """`np.quantile` with linear interpolation; a tenth of the time for a few hundred values."""
    return _quantile(np.sort(values), share)


def _quantile(ascending: npt.NDArray[np.generic], share: float) -> float:
    last = len(ascending) - 1
    position = share * last
    below = int(position)
    low, high = float(ascending[below]), float(ascending[min(below + 1, last)])
    return low + (position - below) * (high - low)


def is_blank(image: Gray) -> bool:
    """Return whether an image, uint8 `[h, w]` or `[h, w, channels]`, has only noise."""
    return bool(np.ptp(image, axis=(0, 1)).max() < LEAST_CONTRAST)


def monochrome(colors: Gray) -> Gray:
    """Convert colors, uint8 `[h, w, 3]`, to the gray `[h, w]` with the most contrast of ink.

    This is luminance, unless ink and paper differ in color but hardly in luminance, such as red on
    green: then it is the channel with the most contrast.
    """
    image = Image.fromarray(np.ascontiguousarray(colors))
    small = image.reduce(-(-min(image.size) // THUMBNAIL_SIDE))
    channels = np.asarray(small).std(axis=(0, 1), dtype=np.float64)
    if channels.max() > COLOR_CONTRAST * np.asarray(small.convert("L")).std(dtype=np.float64):
        return np.ascontiguousarray(colors[:, :, int(channels.argmax())])
    return np.asarray(image.convert("L"))


class Scene(NamedTuple):
    """Properties of the whole image for the segmentation of its parts."""

    photograph: bool
    """Whether to expect uneven light, specks, frames and ruled lines."""
    dark_ink: bool
    paper: Gray
    """The sheet without ink, if the paper is light: of the image's shape, or `[]`."""

    def within(self, rows: slice, columns: slice, size: tuple[int, int]) -> Self:
        """Return the scene of a part of the image, resized to (width, height)."""
        if not self.paper.ndim:
            return self
        part = pillow(self.paper[rows, columns])
        return self._replace(paper=array(part.resize(size, Image.Resampling.BILINEAR)))


def observe(image: Gray, sent: tuple[int, ...]) -> Scene:
    """Measure the properties of the whole image.

    `sent` is its shape before shrinking, which distinguishes photographs from drawings.
    """
    photograph = max(sent) >= PHOTOGRAPH_SIDE
    middle = _middle(image) if photograph else image
    if photograph and _unevenness(array(_thumbnail(middle))) > EVEN_PAPER:
        dark_ink = _is_skewed_to_dark(middle)
        return Scene(photograph, dark_ink, _lit_paper(image if dark_ink else ~image))
    border = np.sort(_border(middle))
    dark_ink = _is_darker_inside(middle, _quantile(border, 0.5))
    ascending = border if dark_ink else ~border[::-1]
    # Ink may touch much of the border of a small scan, and can only darken it.
    level = _quantile(ascending, 0.5 if photograph else 0.9)
    return Scene(photograph, dark_ink, np.array(round(level), np.uint8))


def _middle(image: Gray) -> Gray:
    """Return the image without its outer part, which may show tables, frames and holes."""
    down, across = (side // 7 for side in image.shape)
    return image[down : image.shape[0] - down, across : image.shape[1] - across]


def _unevenness(thumbnail: Gray) -> float:
    """Return the variation of light along the border in gray levels, robust to ink."""
    border = np.sort(_border(thumbnail))
    return _quantile(border, 0.9) - _quantile(border, 0.1)


def _is_darker_inside(image: Gray, paper: float) -> bool:
    """Most of the border is paper, and ink differs from it: a small digit shifts no mean."""
    contrast = np.subtract(image, paper, dtype=np.float32)
    return float((contrast * contrast * contrast).sum()) < 0


def _is_skewed_to_dark(image: Gray) -> bool:
    """Strokes are sparse and differ from their surroundings, so the local contrast is skewed.

    Gradients, edges of shadows and noise are symmetric.
    """
    around = pillow(image).filter(ImageFilter.GaussianBlur(max(image.shape) / 12))
    contrast = np.subtract(image, array(around), dtype=np.float32)
    return float((contrast * contrast * contrast).sum()) < 0  # `** 3` is seventy times slower


def _thumbnail(image: Gray) -> Image.Image:
    return pillow(image).reduce(-(-max(image.shape) // THUMBNAIL_SIDE))


def separate(image: Gray, scene: Scene) -> Gray:
    """Separate ink from paper: uint8, same shape, 0 on paper to 255 on full ink."""
    light_paper = image if scene.dark_ink else ~image
    levels, noise = _levels(light_paper, scene.paper)
    least = max(LEAST_CONTRAST, FAINTEST * noise)
    specks = 1
    if scene.photograph:
        specks += int(BRIGHTEST * image.size)
        odd = int(levels.searchsorted(int(ODD_SHARE * image.size), "right")) - WHITE
        least = max(least, -ONE_SIDED * odd)
    peak = int(levels.searchsorted(image.size - specks, "right")) - WHITE
    if peak < least:
        return np.zeros_like(image)
    floor = max(4 * noise, 0.05 * peak)
    below = int(levels[(peak + 1) // 2 + WHITE - 1])  # at half of the peak
    full = int(levels.searchsorted((below + image.size - 1) // 2, "right")) - WHITE
    ink = (_CONTRASTS - floor) * (255 / max(full - floor, 1))
    table = np.minimum(np.maximum(ink, 0, out=ink), 255, out=ink).astype(np.uint8)
    # Pixels lighter than the paper have no ink.
    contrast = np.maximum(scene.paper, light_paper) - light_paper
    separated = contrast.tobytes().translate(table[WHITE:].tobytes())
    return np.frombuffer(separated, np.uint8).reshape(image.shape)


def _levels(light_paper: Gray, paper: Gray) -> tuple[npt.NDArray[np.intp], float]:
    """Return the cumulative counts of `_CONTRASTS`, and the noise of the paper."""
    if paper.ndim:
        contrast = np.subtract(paper, light_paper, dtype=np.int16)
        counts = np.bincount((contrast + np.int16(WHITE)).ravel(), minlength=2 * WHITE + 1)
        return counts.cumsum(), _noise(contrast)
    counts = np.zeros(2 * WHITE + 1, np.intp)
    level = int(paper)
    counts[level : level + WHITE + 1] = np.bincount(light_paper.ravel(), minlength=WHITE + 1)[::-1]
    return counts.cumsum(), _noise(light_paper)


def _noise(image: npt.NDArray[Any]) -> float:
    """Return the standard deviation of the paper along the border, in gray levels.

    Estimated from the median absolute deviation, which is robust to ink while most of the border is
    paper.
    """
    border = _border(image)
    return 1.4826 * quantile(np.abs(border - quantile(border, 0.5)), 0.5)


def _lit_paper(light_paper: Gray) -> Gray:
    """Return the lighting of the sheet: a closing with a window wider than strokes removes them."""
    thumbnail = array(_thumbnail(light_paper)).astype(np.int16)
    paper = closed(extended(thumbnail, WIDEST_STROKE // 2), WIDEST_STROKE)
    size = light_paper.shape[1], light_paper.shape[0]
    smooth = pillow(paper).filter(ImageFilter.GaussianBlur(1))
    return array(smooth.resize(size, Image.Resampling.BICUBIC))


def extended(thumbnail: npt.NDArray[np.int16], reach: int) -> Gray:
    """Extrapolate by 2 × `reach` pixels on each side: linearly, then constant.

    Otherwise closing would brighten dark corners. Equals `np.pad` by `reach` with
    `reflect_type="odd"` and again with `mode="edge"`, in a tenth of the time.
    """
    for _ in range(2):
        steps = _steps(reach, len(thumbnail) - 1)
        before = 2 * thumbnail[0] - thumbnail[steps[::-1]]
        after = 2 * thumbnail[-1] - thumbnail[-1 - steps]
        thumbnail = np.concatenate([before, thumbnail, after]).T
    return thumbnail.clip(0, WHITE).astype(np.uint8)


@lru_cache(maxsize=64)
def _steps(reach: int, most: int) -> npt.NDArray[np.intp]:
    return np.arange(1, 2 * reach + 1).clip(max=min(reach, most))


def closed(image: Gray, window: int) -> Gray:
    """Apply gray closing: dark areas narrower than a square window are filled.

    The window is an odd number of pixels. Returns the inner part, where it is complete:
    `[h - 2 * window + 2, w - 2 * window + 2]`.
    """
    for extreme in (np.maximum, np.minimum):
        for _ in range(2):
            image = _slid(image, window, extreme).T
    return image


def _slid(image: Gray, window: int, extreme: np.ufunc) -> Gray:
    """Return the running extreme over `window` rows, by doubling."""
    seen = 1
    while seen < window:
        step = min(seen, window - seen)
        image = extreme(image[:-step], image[step:])
        seen += step
    return image
