"""Separate ink from paper under any lighting: uint8 in, ink from 0 to 255 out."""

from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from logitserve.inference.mnist import contrast, pixels

Gray = npt.NDArray[np.uint8]

WHITE: Final = 255
EVEN_PAPER: Final = 4
"""Gray levels, 10th to 90th percentile along the border, above which light is uneven."""
PHOTOGRAPH_SIDE: Final = 64
"""Pixels. In smaller images (drawings, scans) the border varies because of ink, not light."""
THUMBNAIL_SIDE: Final = 32
"""Pixels. Size for the estimation of light; averaging removes noise."""
WIDEST_STROKE: Final = 13
"""Pixels of the thumbnail: narrower is a stroke, wider a shadow. As a share, 0.41, it exceeds every
stroke of MNIST (measured over the digit: 99 % below 0.21, largest 0.38)."""

COLOR_CONTRAST: Final = 2
"""Ratio of a channel's variation to that of luminance above which the channel is used instead."""


def pillow(image: Gray) -> Image.Image:
    """`Image.fromarray` for uint8 `[h, w]` in half of the time: small images need many calls."""
    height, width = image.shape
    buffer = np.ascontiguousarray(image)
    return Image.frombuffer("L", (width, height), buffer, "raw", "L", 0, 1)


def array(image: Image.Image) -> Gray:
    """`np.asarray` for an image of mode L in half of the time."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width)


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
    return bool(np.ptp(image, axis=(0, 1)).max() < contrast.LEAST_CONTRAST)


def monochrome(colors: Gray) -> Gray:
    """Convert colors, uint8 `[h, w, 3]`, to the gray `[h, w]` with the most contrast of ink.

    This is luminance, unless ink and paper differ in color but hardly in luminance, such as red on
    green: then it is the channel with the most contrast.
    """
    colors = np.ascontiguousarray(colors)
    gray = pixels.gray_of(colors)
    if gray is not None:
        return gray
    image = Image.fromarray(colors)
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
    if photograph and _unevenness(_thumbnail(middle)) > EVEN_PAPER:
        dark_ink = _is_skewed_to_dark(middle)
        return Scene(photograph, dark_ink, _lit_paper(image if dark_ink else ~image))
    # Most of the border is paper, and ink differs from it: a small digit shifts no mean.
    border = contrast.ascending_border(middle)
    dark_ink = contrast.skewness(middle, _quantile(border, 0.5)) < 0
    ascending = border if dark_ink else ~border[::-1]
    # Ink may touch much of the border of a small scan, and can only darken it.
    level = _quantile(ascending, 0.5 if photograph else 0.9)
    return Scene(photograph, dark_ink, np.array(round(level), np.uint8))


def _middle(image: Gray) -> Gray:
    """Return the image without its outer part, which may show tables, frames and holes."""
    down, across = (side // 7 for side in image.shape)
    return np.ascontiguousarray(
        image[down : image.shape[0] - down, across : image.shape[1] - across]
    )


def _unevenness(thumbnail: Gray) -> float:
    """Return the variation of light along the border in gray levels, robust to ink."""
    border = contrast.ascending_border(thumbnail)
    return _quantile(border, 0.9) - _quantile(border, 0.1)


def _is_skewed_to_dark(image: Gray) -> bool:
    """Strokes are sparse and differ from their surroundings, so the local contrast is skewed.

    Gradients, edges of shadows and noise are symmetric.
    """
    around = pillow(image).filter(ImageFilter.GaussianBlur(max(image.shape) / 12))
    return contrast.local_skewness(image, array(around)) < 0


def _thumbnail(image: Gray) -> Gray:
    return pixels.reduced(image, -(-max(image.shape) // THUMBNAIL_SIDE))


def separate(image: Gray, scene: Scene) -> Gray:
    """Separate ink from paper: uint8, same shape, 0 on paper to 255 on full ink."""
    return contrast.separate(image, scene.dark_ink, scene.paper, scene.photograph)


def _lit_paper(light_paper: Gray) -> Gray:
    """Return the lighting of the sheet: a closing with a window wider than strokes removes them."""
    # Otherwise closing would brighten dark corners.
    thumbnail = pixels.extended(_thumbnail(light_paper), WIDEST_STROKE // 2)
    paper = pixels.closed(thumbnail, WIDEST_STROKE)
    size = light_paper.shape[1], light_paper.shape[0]
    smooth = pillow(paper).filter(ImageFilter.GaussianBlur(1))
    return array(smooth.resize(size, Image.Resampling.BICUBIC))
