"""Ink and paper told apart, whatever the light: uint8 in, ink from 0 to 255 out."""

from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Gray = npt.NDArray[np.uint8]

WHITE: Final = 255
LEAST_CONTRAST: Final = 10
"""Gray levels between paper and ink below which an image is blank (JPEG moves paper by 1-4)."""
EVEN_PAPER: Final = 4
"""Gray levels, 10th to 90th percentile along the border: more is uneven light."""
PHOTOGRAPH_SIDE: Final = 64
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
ONE_SIDED: Final = 1.25
"""How many times further than what lies on the other side of the paper ink is from it. Noise and
the edges of shadows go as far to the one side as to the other."""
ODD_SHARE: Final = 0.002
"""Share of a photograph's pixels that may lie on the other side of the paper unnoticed."""
BRIGHTEST: Final = 0.0005
"""Share of a photograph's pixels that may be darker than ink, as single specks are."""

COLOR_CONTRAST: Final = 2
"""How many times more a channel has to vary than luminance to be looked at instead of it."""

_CONTRASTS: Final = np.arange(-WHITE, WHITE + 1)


def pillow(image: Gray) -> Image.Image:
    """As `Image.fromarray` of uint8 `[h, w]`, in half of the time: small images are many calls."""
    height, width = image.shape
    buffer = np.ascontiguousarray(image)
    return Image.frombuffer("L", (width, height), buffer, "raw", "L", 0, 1)


def array(image: Image.Image) -> Gray:
    """As `np.asarray` of an image of mode L, in half of the time."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width)


def _border(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The outermost pixels, one-dimensional: paper, but where ink touches the edge."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def quantile(values: npt.NDArray[np.generic], share: float) -> float:
    """`np.quantile` of at least one value, linear between two; of some hundred in a tenth of it."""
    return _quantile(np.sort(values), share)


def _quantile(ascending: npt.NDArray[np.generic], share: float) -> float:
    last = len(ascending) - 1
    position = share * last
    below = int(position)
    low, high = float(ascending[below]), float(ascending[min(below + 1, last)])
    return low + (position - below) * (high - low)


def is_blank(image: Gray) -> bool:
    """Whether an image, uint8 `[h, w]` or `[h, w, channels]`, has no more contrast than noise."""
    return bool(np.ptp(image, axis=(0, 1)).max() < LEAST_CONTRAST)


def monochrome(colors: Gray) -> Gray:
    """Colors, uint8 `[h, w, 3]`, to the gray `[h, w]` in which ink stands out from paper.

    That is luminance, but for ink and paper that differ in color and hardly in luminance, as red
    on green may: then it is the channel in which they differ most.
    """
    image = Image.fromarray(np.ascontiguousarray(colors))
    small = image.reduce(-(-min(image.size) // THUMBNAIL_SIDE))
    channels = np.asarray(small).std(axis=(0, 1), dtype=np.float64)
    if channels.max() > COLOR_CONTRAST * np.asarray(small.convert("L")).std(dtype=np.float64):
        return np.ascontiguousarray(colors[:, :, int(channels.argmax())])
    return np.asarray(image.convert("L"))


class Scene(NamedTuple):
    """What the whole image tells of any part of it."""

    photograph: bool
    """Light, specks, frames and ruled lines are to be reckoned with."""
    dark_ink: bool
    paper: Gray
    """What the sheet would look like without ink, were it light: of the image's shape, or `[]`."""

    def within(self, rows: slice, columns: slice, size: tuple[int, int]) -> Self:
        """The scene of a part of the image that is seen in another size, width and height."""
        if not self.paper.ndim:
            return self
        part = pillow(self.paper[rows, columns])
        return self._replace(paper=array(part.resize(size, Image.Resampling.BILINEAR)))


def observe(image: Gray, sent: tuple[int, ...]) -> Scene:
    """Look at the whole image.

    `sent` is its shape before it was shrunk, which tells photographs from drawings.
    """
    photograph = max(sent) >= PHOTOGRAPH_SIDE
    middle = _middle(image) if photograph else image
    if photograph and _unevenness(array(_thumbnail(middle))) > EVEN_PAPER:
        dark_ink = _is_skewed_to_dark(middle)
        return Scene(photograph, dark_ink, _lit_paper(image if dark_ink else ~image))
    border = np.sort(_border(middle))
    dark_ink = _is_darker_inside(middle, _quantile(border, 0.5))
    ascending = border if dark_ink else ~border[::-1]
    # Ink may touch much of the border of a small scan, and only ever makes it darker.
    level = _quantile(ascending, 0.5 if photograph else 0.9)
    return Scene(photograph, dark_ink, np.array(round(level), np.uint8))


def _middle(image: Gray) -> Gray:
    """The image without its outermost part, where tables, frames and holes are."""
    down, across = (side // 7 for side in image.shape)
    return image[down : image.shape[0] - down, across : image.shape[1] - across]


def _unevenness(thumbnail: Gray) -> float:
    """Gray levels by which the light differs along the border, but for what ink touches it."""
    border = np.sort(_border(thumbnail))
    return _quantile(border, 0.9) - _quantile(border, 0.1)


def _is_darker_inside(image: Gray, paper: float) -> bool:
    """Ink is far from the paper, which most of the border is: a small digit shifts no mean."""
    contrast = np.subtract(image, paper, dtype=np.float32)
    return float((contrast * contrast * contrast).sum()) < 0


def _is_skewed_to_dark(image: Gray) -> bool:
    """Strokes are sparse and far from what is around them, so they skew the local contrast.

    Gradients, the edges of shadows and noise go as far to the one side as to the other.
    """
    around = pillow(image).filter(ImageFilter.GaussianBlur(max(image.shape) / 12))
    contrast = np.subtract(image, array(around), dtype=np.float32)
    return float((contrast * contrast * contrast).sum()) < 0  # a power costs seventy times more


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
    below = int(levels[(peak + 1) // 2 + WHITE - 1])  # of half the peak
    full = int(levels.searchsorted((below + image.size - 1) // 2, "right")) - WHITE
    ink = (_CONTRASTS - floor) * (255 / max(full - floor, 1))
    table = np.minimum(np.maximum(ink, 0, out=ink), 255, out=ink).astype(np.uint8)
    # What is lighter than the paper has no ink, as the paper has none.
    contrast = np.maximum(scene.paper, light_paper) - light_paper
    separated = contrast.tobytes().translate(table[WHITE:].tobytes())
    return np.frombuffer(separated, np.uint8).reshape(image.shape)


def _levels(light_paper: Gray, paper: Gray) -> tuple[npt.NDArray[np.intp], float]:
    """How many pixels have each contrast of `_CONTRASTS` or less, and the noise of the paper."""
    if paper.ndim:
        contrast = np.subtract(paper, light_paper, dtype=np.int16)
        counts = np.bincount((contrast + np.int16(WHITE)).ravel(), minlength=2 * WHITE + 1)
        return counts.cumsum(), _noise(contrast)
    counts = np.zeros(2 * WHITE + 1, np.intp)
    level = int(paper)
    counts[level : level + WHITE + 1] = np.bincount(light_paper.ravel(), minlength=WHITE + 1)[::-1]
    return counts.cumsum(), _noise(light_paper)


def _noise(image: npt.NDArray[Any]) -> float:
    """Standard deviation of the paper along the border, in gray levels.

    By the median distance from the median, both of which ink moves little while most of the border
    is paper.
    """
    border = _border(image)
    return 1.4826 * quantile(np.abs(border - quantile(border, 0.5)), 0.5)


def _lit_paper(light_paper: Gray) -> Gray:
    """The light on the sheet: strokes are closed by a window wider than they are."""
    thumbnail = array(_thumbnail(light_paper)).astype(np.int16)
    paper = closed(extended(thumbnail, WIDEST_STROKE // 2), WIDEST_STROKE)
    size = light_paper.shape[1], light_paper.shape[0]
    smooth = pillow(paper).filter(ImageFilter.GaussianBlur(1))
    return array(smooth.resize(size, Image.Resampling.BICUBIC))


def extended(thumbnail: npt.NDArray[np.int16], reach: int) -> Gray:
    """With twice so many pixels more on each side: the light goes on as it came, then stays.

    Otherwise closing would brighten dark corners. As `np.pad` by `reach` with
    `reflect_type="odd"` and again with `mode="edge"`, which take ten times as long.
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
    """Gray closing: what is dark, and narrower than a square window, is filled.

    The window is an odd number of pixels. Returns the inner part, where it is whole:
    `[h - 2 * window + 2, w - 2 * window + 2]`.
    """
    for extreme in (np.maximum, np.minimum):
        for _ in range(2):
            image = _slid(image, window, extreme).T
    return image


def _slid(image: Gray, window: int, extreme: np.ufunc) -> Gray:
    """The extreme of each so many rows; of twice as many at each step."""
    seen = 1
    while seen < window:
        step = min(seen, window - seen)
        image = extreme(image[:-step], image[step:])
        seen += step
    return image
