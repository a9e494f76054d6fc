"""Corruptions for measuring robustness, which no training of the project uses.

The fifteen kinds of MNIST-C, reimplemented with its severities (Mu, Gilmer 2019, "MNIST-C: A
Robustness Benchmark for Computer Vision", arXiv:1906.02337), and five more. Lengths are in 28ths
of the picture's shorter side, so that they apply to pictures of other sizes.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image
from scipy import ndimage

from logitserve_training.datasets.dataset import Images
from logitserve_training.disturb import Disturbance, Floats, sampled, slopes

_CHUNK: Final = 100
"""Batch size."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of corruption."""

    make: Disturbance
    like: str | None = None
    """The most similar family of `disturb.FAMILIES`; None: no family is similar."""
    of_mnist_c: bool = True


def corrupted(kind: str, images: Images, seed: int = 0) -> Images:
    """Corrupt each picture with one of `KINDS`; equal seeds give equal results."""
    make, found = KINDS[kind].make, np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].astype(np.float32) / 255
        for channel in range(images.shape[3]):  # the same corruption in each channel
            generator = np.random.default_rng([list(KINDS).index(kind), seed, start])
            made = make(part[..., channel], generator)
            found[start : start + _CHUNK, :, :, channel] = (made.clip(0, 1) * 255).astype(np.uint8)
    return found


def _unit(images: Floats) -> float:
    return float(min(images.shape[1:]) / 28)


def _grid(images: Floats) -> tuple[Floats, Floats]:
    _, height, width = images.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows, columns


def _sign(images: Floats, generator: np.random.Generator) -> Floats:
    return generator.choice([-1, 1], (len(images), 1, 1)).astype(np.float32)


def _impulse_noise(images: Floats, generator: np.random.Generator) -> Floats:
    chance = generator.random(images.shape)
    return np.where(chance < 0.17, chance < 0.085, images).astype(np.float32)


def _glass_blur(images: Floats, generator: np.random.Generator) -> Floats:
    """Swap neighbors randomly, between two blurs."""
    unit = _unit(images)
    image = ndimage.gaussian_filter(images, (0, 0.7 * unit, 0.7 * unit), mode="nearest")
    everyone, reach = np.arange(len(image)), max(1, round(unit))
    for _ in range(2):
        for row in range(image.shape[1] - reach, reach, -1):
            for column in range(image.shape[2] - reach, reach, -1):
                down, across = generator.integers(-reach, reach, (2, len(image)))
                stays = generator.random(len(image)) < 0.5
                down[stays] = across[stays] = 0
                other = everyone, row + down, column + across
                here = image[:, row, column].copy()
                image[:, row, column] = image[other]
                image[other] = here
    return ndimage.gaussian_filter(image, (0, 0.7 * unit, 0.7 * unit), mode="nearest")


def _motion_blur(images: Floats, generator: np.random.Generator) -> Floats:
    """Convolve with half a Gaussian of standard deviation 3 along a line, as ImageMagick does."""
    rows, columns = _grid(images)
    angle = np.radians(generator.uniform(-45, 45, (len(images), 1, 1))).astype(np.float32)
    steps = np.arange(21)
    weights = np.exp(-((steps / 3) ** 2) / 2)
    moved = (
        weight * sampled(images, rows + np.sin(angle) * step, columns + np.cos(angle) * step)
        for step, weight in zip(steps * _unit(images), weights / weights.sum(), strict=True)
    )
    return np.sum(list(moved), axis=0, dtype=np.float32)


def _mapped(maps: Callable[[Floats], Floats]) -> Disturbance:
    """Return a linear map around the center: the rows of its matrix act on (column, row)."""

    def make(images: Floats, generator: np.random.Generator) -> Floats:
        rows, columns = _grid(images)
        y, x = rows - rows.mean(), columns - columns.mean()
        (xx, xy), (yx, yy) = maps(_sign(images, generator))
        return sampled(images, yx * x + yy * y + rows.mean(), xx * x + xy * y + columns.mean())

    return make


def _translate(images: Floats, generator: np.random.Generator) -> Floats:
    rows, columns = _grid(images)
    step = 3 * _unit(images)
    down, across = (step * _sign(images, generator) for _ in range(2))
    return sampled(images, rows + down, columns + across)


def _stripe(images: Floats, _: np.random.Generator) -> Floats:
    found, quarter = images.copy(), images.shape[2] // 4
    found[:, :, :quarter] = 1 - found[:, :, :quarter]
    found[:, :, -quarter:] = 1 - found[:, :, -quarter:]
    return found


def _plasma(count: int, side: int, decay: float, generator: np.random.Generator) -> Floats:
    """Return diamond-square heights from 0 to 1, `[count, side, side]`; side: a power of 2."""
    heights = np.zeros((count, side, side))
    step, wobble = side, 100.0

    def mean(total: Floats) -> Floats:
        return total / 4 + wobble * generator.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        square = corners + np.roll(corners, -1, 1)
        heights[:, half::step, half::step] = mean(square + np.roll(square, -1, 2))
        centers = heights[:, half::step, half::step]
        across = centers + np.roll(centers, 1, 1)
        heights[:, ::step, half::step] = mean(across + corners + np.roll(corners, -1, 2))
        down = centers + np.roll(centers, 1, 2)
        heights[:, half::step, ::step] = mean(down + corners + np.roll(corners, -1, 1))
        step, wobble = half, wobble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return (heights / heights.max(axis=(1, 2), keepdims=True)).astype(np.float32)


def _fog(images: Floats, generator: np.random.Generator) -> Floats:
    _, height, width = images.shape
    side = max(256, 1 << (max(height, width) - 1).bit_length())
    fog = 3 * _plasma(len(images), side, 1.4, generator)[:, :height, :width]
    most = images.max(axis=(1, 2), keepdims=True)
    return (images + fog) * most / (most + 3)


def _spatter(images: Floats, generator: np.random.Generator) -> Floats:
    unit = _unit(images)
    liquid = generator.normal(0.65, 0.3, images.shape)
    liquid = ndimage.gaussian_filter(liquid, (0, unit, unit), mode="nearest")
    mud = (liquid > 0.65).astype(np.float32)
    mud = ndimage.gaussian_filter(mud, (0, 1.5 * unit, 1.5 * unit), mode="nearest")
    mud[mud < 0.8] = 0
    return images * (1 - mud) + 63 / 255 * mud


def _line(images: Floats, begin: tuple[float, Floats], end: tuple[float, Floats]) -> Floats:
    """Return a soft line between two points (column, row), in 28ths; rows `[n, 1, 1]`."""
    unit = _unit(images)
    rows, columns = (axis / unit for axis in _grid(images))
    slope = (end[1] - begin[1]) / (end[0] - begin[0])
    distance = abs(rows - begin[1] - slope * (columns - begin[0])).clip(0, 2.3 - 1e-6)
    inside = (columns >= np.floor(begin[0])) & (columns < np.ceil(end[0]))
    return ((np.log(1 - distance / 2.3) + 1).clip(0, 1) * inside).astype(np.float32)


def _dotted_line(images: Floats, generator: np.random.Generator) -> Floats:
    first, last = generator.integers(0, 27, (2, len(images), 1, 1)).astype(np.float32)
    is_on = _grid(images)[1] / _unit(images) // 2 % 2 == 1
    return images + _line(images, (0, first), (27, last)) * is_on


def _zigzag(images: Floats, generator: np.random.Generator) -> Floats:
    row = generator.integers(0, 27, (len(images), 1, 1)).astype(np.float32)
    slope = generator.integers(-5, 5, (len(images), 1, 1)) / 23
    found = images
    corners = [(2.0, 0.0), *((2.0 + 2 * (2 * i + 1), 2.0 * (-1) ** i) for i in range(5)), (25, 0)]
    for (column, height), (other, other_height) in pairwise(corners):
        begin = row + slope * (column - 2) + height
        end = row + slope * (other - 2) + other_height
        found = np.minimum(found + _line(images, (column, begin), (other, end)), 1)
    return found


def _canny_edges(images: Floats, _: np.random.Generator) -> Floats:
    """Apply Canny's edge detector (1986), with standard deviation 1, thresholds 0.1 and 0.2."""
    unit = _unit(images)
    smooth = ndimage.gaussian_filter(images, (0, unit, unit), mode="constant")
    down, across = slopes(smooth)
    size = np.hypot(down, across)
    rows, columns = _grid(images)
    y, x = (part / np.maximum(abs(down), abs(across)).clip(1e-9) for part in (down, across))
    is_top = (size >= sampled(size, rows + y, columns + x)) & (
        size >= sampled(size, rows - y, columns - x)
    )
    is_top[:, [0, -1]] = is_top[:, :, [0, -1]] = False
    touching = np.zeros((3, 3, 3))
    touching[1] = 1
    pieces, count = ndimage.label(is_top & (size >= 0.1), touching)
    is_strong = np.zeros(count + 1, np.bool_)
    is_strong[np.unique(pieces[is_top & (size >= 0.2)])] = True
    is_strong[0] = False
    return is_strong[pieces].astype(np.float32)


def _swirl(images: Floats, generator: np.random.Generator) -> Floats:
    """Rotate around the center, decreasing with the distance."""
    rows, columns = _grid(images)
    y, x = rows - rows.mean(), columns - columns.mean()
    strength = generator.uniform(0.8, 1.2, (len(images), 1, 1)) * _sign(images, generator)
    angle = strength * np.exp(-np.hypot(y, x) / (9 * _unit(images)))
    sin, cos = np.sin(angle), np.cos(angle)
    return sampled(images, cos * y - sin * x + rows.mean(), sin * y + cos * x + columns.mean())


def _shaken_rows(images: Floats, generator: np.random.Generator) -> Floats:
    """Shift each row sideways, as a slipping scanner does."""
    rows, columns = _grid(images)
    shift = generator.normal(0, 1.2 * _unit(images), (*images.shape[:2], 1)).astype(np.float32)
    return sampled(images, np.broadcast_to(rows, images.shape), columns + shift)


def _squared_paper(images: Floats, generator: np.random.Generator) -> Floats:
    rows, columns = (axis / _unit(images) for axis in _grid(images))
    period, y, x, ink = generator.uniform((5, 0, 0, 0.4), (8, 8, 8, 0.9), (len(images), 4)).T[
        :, :, None, None
    ]
    is_line = ((rows - y) % period < 1) | ((columns - x) % period < 1)
    return np.maximum(images, ink * is_line).astype(np.float32)


def _jpeg(images: Floats, _: np.random.Generator) -> Floats:
    def saved(image: Floats) -> Floats:
        buffer = io.BytesIO()
        Image.fromarray((image * 255).astype(np.uint8)).save(buffer, "JPEG", quality=7)
        return np.asarray(Image.open(buffer), np.float32) / 255

    return np.stack([saved(image) for image in images])


KINDS: Final[dict[str, Corruption]] = {
    "shot noise": Corruption(
        lambda images, generator: (generator.poisson(images * 3) / 3).astype(np.float32),
        "colored noise",
    ),
    "impulse noise": Corruption(_impulse_noise),
    "glass blur": Corruption(_glass_blur),
    "motion blur": Corruption(_motion_blur, "blur"),
    "shear": Corruption(_mapped(lambda sign: ((1, 0.4 * sign), (0, 1))), "affine"),
    "scale": Corruption(_mapped(lambda _: ((1 / 0.7, 0), (0, 1 / 0.7))), "affine"),
    "rotate": Corruption(
        _mapped(
            lambda sign: (
                (np.cos(0.4), -sign * np.sin(0.4)),
                (sign * np.sin(0.4), np.cos(0.4)),
            )
        ),
        "affine",
    ),
    "brightness": Corruption(lambda images, _: images + np.float32(0.5), "tone"),
    "translate": Corruption(_translate, "affine"),
    "stripe": Corruption(_stripe, "negative"),
    "fog": Corruption(_fog, "added texture"),
    "spatter": Corruption(_spatter, "blots"),
    "dotted line": Corruption(_dotted_line, "bars"),
    "zigzag": Corruption(_zigzag, "bars"),
    "canny edges": Corruption(_canny_edges, "outline"),
    "missing pixels": Corruption(
        lambda images, generator: images * (generator.random(images.shape) >= 0.4),
        of_mnist_c=False,
    ),
    "swirl": Corruption(_swirl, of_mnist_c=False),
    "shaken rows": Corruption(_shaken_rows, of_mnist_c=False),
    "squared paper": Corruption(_squared_paper, "bars", of_mnist_c=False),
    "JPEG": Corruption(_jpeg, of_mnist_c=False),
}
