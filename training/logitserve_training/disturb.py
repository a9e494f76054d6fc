"""Random disturbances of digits for training: noise, textures, lines, blots, lighting, and more.

Each picture gets a chain of one to three of the families below, and some are mixed with the
original (Hendrycks et al. 2020, "AugMix", arXiv:1912.02781). `corruptions` are other families,
which no training uses.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy import ndimage

from logitserve_training.datasets.dataset import Images

Floats = Any
"""A float array: pictures, `[n, h, w]`, 0 to 1, or an array that broadcasts against them."""
Disturbance = Callable[[Floats, np.random.Generator], Floats]
"""Disturbs each picture independently; results may be outside 0 to 1."""

_GROUP: Final = 8
"""Pictures that share one draw of a family."""
_LINKS: Final = (0.35, 0.4, 0.25)
"""Probabilities of chains of one, two, and three families."""
_BLENDED: Final = 0.3
"""Share of the pictures that are mixed with the original."""
_INVERTED: Final = 0.12
"""Share of the pictures that are inverted to dark on light at the end."""


def disturb(images: Images, generator: np.random.Generator) -> Images:
    """Disturb each picture, uint8 `[n, h, w, 1]`, light on dark, independently."""
    clean = images[..., 0].astype(np.float32) / 255
    disturbed = clean.copy()
    links = generator.choice(3, len(images), p=_LINKS)
    for link in range(3):
        order = generator.permutation(np.flatnonzero(links >= link))
        for start in range(0, len(order), _GROUP):
            rows = order[start : start + _GROUP]
            family = FAMILIES[_NAMES[generator.integers(len(_NAMES))]]
            disturbed[rows] = family(disturbed[rows], generator).clip(0, 1)
    share = _each(generator, len(images), 0.35, 0.9)
    share[generator.random(len(images)) >= _BLENDED] = 1
    disturbed = share * disturbed + (1 - share) * clean
    inverted = generator.random(len(images)) < _INVERTED
    disturbed[inverted] = 1 - disturbed[inverted]
    return np.asarray(np.rint(disturbed * 255), np.uint8)[..., None]


def by_family(family: str, images: Images, seed: int = 0) -> Images:
    """Disturb pictures, as for `disturb`, with one of `FAMILIES`."""
    generator = np.random.default_rng([seed, _NAMES.index(family)])
    clean = images[..., 0].astype(np.float32) / 255
    parts = [clean[start : start + _GROUP] for start in range(0, len(clean), _GROUP)]
    found = np.concatenate([FAMILIES[family](part, generator) for part in parts]).clip(0, 1)
    return np.asarray(np.rint(found * 255), np.uint8)[..., None]


def _each(generator: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """Return one uniform random number per picture, `[n, 1, 1]`."""
    return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _grid(images: Floats) -> tuple[Floats, Floats]:
    """Return rows and columns relative to the center, in pixels, `[1, h, 1]` and `[1, 1, w]`."""
    _, height, width = images.shape
    rows = np.arange(height, dtype=np.float32)[None, :, None] - (height - 1) / 2
    columns = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2
    return rows, columns


def _across(images: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return coordinates across and along a random direction per picture, `[n, h, w]`."""
    angle = _each(generator, len(images), 0, np.pi)
    rows, columns = _grid(images)
    sin, cos = np.sin(angle), np.cos(angle)
    return rows * cos - columns * sin, rows * sin + columns * cos


def sampled(images: Floats, rows: Floats, columns: Floats) -> Floats:
    """Return bilinear samples of each picture at rows and columns, `[n, h, w]`; 0 outside."""
    rows, columns = np.broadcast_to(rows, images.shape), np.broadcast_to(columns, images.shape)
    number = np.broadcast_to(np.arange(len(images), dtype=np.float32)[:, None, None], rows.shape)
    return ndimage.map_coordinates(images, [number, rows, columns], order=1, mode="constant")


def slopes(images: Floats) -> tuple[Floats, Floats]:
    """Return the Sobel derivatives of each picture, down and across."""
    across = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], np.float32)
    down = across.transpose(0, 2, 1)
    return ndimage.correlate(images, down), ndimage.correlate(images, across)


def noise(shape: tuple[int, ...], generator: np.random.Generator, slope: Any) -> Floats:
    """Return noise with a power-law spectrum: mean 0 and standard deviation 1 per picture.

    The shape is `[n, h, w]`; `slope` is the exponent of the amplitude, `[n, 1, 1]`: 0 is white, 1
    is pink, 2 resembles clouds.
    """
    white = generator.standard_normal(shape, np.float32)
    frequency = np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])[None])
    frequency[0, 0] = np.inf
    colored = np.fft.irfft2(np.fft.rfft2(white) * frequency ** -np.asarray(slope), s=shape[1:])
    deviation = colored.std(axis=(1, 2), keepdims=True)
    return (colored / np.maximum(deviation, 1e-6)).astype(np.float32)


def _unit(images: Floats) -> Floats:
    """Scale each picture to the range 0 to 1."""
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    return (images - low) / np.maximum(high - low, 1e-3)


def _convolution(images: Floats, generator: np.random.Generator) -> Floats:
    """Apply random kernels (Xu et al. 2021, "RandConv", arXiv:2007.13003)."""
    side = generator.choice([3, 3, 5])
    kernel = generator.standard_normal((1, side, side))
    found = ndimage.correlate(images, kernel.astype(np.float32), mode="nearest")
    share = _each(generator, len(images), 0.4, 1)
    return share * _unit(found) + (1 - share) * images


def _erasing(images: Floats, generator: np.random.Generator) -> Floats:
    """Fill a rectangle with one gray or with noise (Zhong et al. 2017, arXiv:1708.04896)."""
    rows, columns = _grid(images)
    count = len(images)
    y, x = _each(generator, count, -11, 11), _each(generator, count, -11, 11)
    high, wide = _each(generator, count, 2, 6), _each(generator, count, 2, 6)
    inside = (abs(rows - y) < high) & (abs(columns - x) < wide)
    fill = generator.choice([0, 1, 0.5], (count, 1, 1)) * np.ones_like(images)
    grainy = generator.random(count) < 0.4
    fill[grainy] = generator.random(fill[grainy].shape)
    return np.where(inside, fill, images).astype(np.float32)


def _colored_noise(images: Floats, generator: np.random.Generator) -> Floats:
    count = len(images)
    strength = _each(generator, count, 0.05, 0.45)
    grain = noise(images.shape, generator, _each(generator, count, 0, 1.2))
    if generator.random() < 0.25:
        grain = grain * images * 1.5  # proportional to the brightness
    return images + strength * grain


def _added_texture(images: Floats, generator: np.random.Generator) -> Floats:
    texture = _unit(noise(images.shape, generator, _each(generator, len(images), 0.8, 3)))
    share = _each(generator, len(images), 0.2, 0.7)
    if generator.random() < 0.5:
        return images + share * texture
    return (1 - share) * images + share * texture


def _brightest_texture(images: Floats, generator: np.random.Generator) -> Floats:
    texture = _unit(noise(images.shape, generator, _each(generator, len(images), 0.3, 2.5)))
    return np.maximum(images, _each(generator, len(images), 0.25, 0.75) * texture)


def _tone(images: Floats, generator: np.random.Generator) -> Floats:
    """Change gamma and the range of grays."""
    count = len(images)
    gamma = np.exp(_each(generator, count, -1, 1))
    low = _each(generator, count, 0, 0.6)
    high = low + (1 - low) * _each(generator, count, 0.15, 1)
    toned = low + (high - low) * images**gamma
    negative = generator.random(count) < 0.2
    toned[negative] = 1 - toned[negative]
    return toned


def _stroke(images: Floats, generator: np.random.Generator) -> Floats:
    """Make strokes thicker or thinner."""
    extreme = ndimage.grey_dilation if generator.random() < 0.6 else ndimage.grey_erosion
    size = (1, *generator.choice([(2, 2), (3, 3), (2, 3), (3, 2)]))
    share = _each(generator, len(images), 0.4, 1)
    return share * extreme(images, size=size) + (1 - share) * images


def _outline(images: Floats, generator: np.random.Generator) -> Floats:
    """Keep only the edges, soft or one pixel wide."""
    level = _each(generator, len(images), 0.1, 0.6)
    if generator.random() < 0.5:
        ink = images > level
        side = 2 if generator.random() < 0.5 else 3
        changed = ndimage.grey_dilation if generator.random() < 0.6 else ndimage.grey_erosion
        return (ink ^ changed(ink, size=(1, side, side))).astype(np.float32)
    width = generator.uniform(0.3, 1.2)
    smooth = ndimage.gaussian_filter(images, (0, width, width))
    edges = _unit(np.hypot(*slopes(smooth)))
    is_drawn = generator.random((len(images), 1, 1)) < 0.6
    return np.where(is_drawn, (20 * (edges - level)).clip(0, 1), edges).astype(np.float32)


def _threshold(images: Floats, generator: np.random.Generator) -> Floats:
    level = _each(generator, len(images), 0.15, 0.8)
    softness = np.exp(_each(generator, len(images), -4, -1.5))
    return 1 / (1 + np.exp((level - images) / softness))


def _blur(images: Floats, generator: np.random.Generator) -> Floats:
    deviation = generator.uniform(0.4, 1.6, 2)
    return ndimage.gaussian_filter(images, (0, *deviation))


def _rescaled(images: Floats, generator: np.random.Generator) -> Floats:
    """Downsample and upsample."""
    _, height, width = images.shape
    small = generator.integers(9, 20)
    down = ndimage.zoom(images, (1, small / height, small / width), order=1, grid_mode=True,
                        mode="nearest")  # fmt: skip
    order = int(generator.integers(2))
    back = (1, height / down.shape[1], width / down.shape[2])
    return ndimage.zoom(down, back, order=order, grid_mode=True, mode="nearest")


def _quantized(images: Floats, generator: np.random.Generator) -> Floats:
    """Reduce the gray levels, or average blocks."""
    if generator.random() < 0.5:
        levels = generator.integers(1, 5, (len(images), 1, 1))
        return (np.rint(images * levels) / levels).astype(np.float32)
    side = int(generator.choice([2, 2, 3]))
    shift = generator.integers(0, side, 2)
    moved = np.roll(images, shift, axis=(1, 2))
    mean = ndimage.uniform_filter(moved, (0, side, side))
    _, height, width = images.shape
    rows, columns = (
        np.minimum(np.arange(length) // side * side + side // 2, length - 1)
        for length in (height, width)
    )
    return np.roll(mean[:, rows[:, None], columns[None]], -shift, axis=(1, 2))


def _bars(images: Floats, generator: np.random.Generator) -> Floats:
    """Draw one to three straight bars, over the digit or beside it."""
    count = len(images)
    for _ in range(generator.integers(1, 4)):
        across, along = _across(images, generator)
        distance = abs(across - _each(generator, count, -11, 11))
        ink = (_each(generator, count, 0.4, 1.6) - distance + 0.5).clip(0, 1)
        ends = _each(generator, count, 4, 22)
        ink = ink * ((along - _each(generator, count, -8, 8)).__abs__() < ends)
        ink = ink * _each(generator, count, 0.4, 1)
        dark = generator.random((count, 1, 1)) < 0.3
        images = np.where(dark, images * (1 - ink), np.maximum(images, ink))
    return images.astype(np.float32)


def _curves(images: Floats, generator: np.random.Generator) -> Floats:
    """Draw a curved line, over the digit or beside it."""
    count = len(images)
    rows, columns = _grid(images)
    corners = generator.uniform(-15, 15, (3, 2, count, 1, 1, 1)).astype(np.float32)
    at = np.linspace(0, 1, 20, dtype=np.float32)
    y, x = (1 - at) ** 2 * corners[0] + 2 * at * (1 - at) * corners[1] + at**2 * corners[2]
    nearest = np.sqrt(((rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2).min(axis=-1))
    ink = (_each(generator, count, 0.3, 1.3) - nearest + 0.6).clip(0, 1)
    ink = ink * _each(generator, count, 0.4, 1)
    dark = generator.random((count, 1, 1)) < 0.3
    return np.where(dark, images * (1 - ink), np.maximum(images, ink)).astype(np.float32)


def _blots(images: Floats, generator: np.random.Generator) -> Floats:
    """Draw soft or sharp spots of ink or paper color."""
    count, spots = len(images), int(generator.integers(1, 9))
    rows, columns = _grid(images)
    y, x = generator.uniform(-14, 14, (2, count, 1, 1, spots)).astype(np.float32)
    radius = generator.uniform(0.8, 3.5, (count, 1, 1, spots)) / spots**0.25
    distance = np.hypot(rows[..., None] - y, columns[..., None] - x)
    sharpness = generator.uniform(0.7, 4)
    ink = (sharpness * (radius - distance) + 0.5).clip(0, 1).max(axis=-1)
    ink = ink * _each(generator, count, 0.35, 1)
    dark = generator.random((count, 1, 1)) < 0.4
    return np.where(dark, images * (1 - ink), np.maximum(images, ink)).astype(np.float32)


def _ghost(images: Floats, generator: np.random.Generator) -> Floats:
    """Blend in another digit, as from the back of the sheet or beside it."""
    other = np.roll(images, 1, axis=0)[:, :, :: generator.choice([-1, 1])]
    other = np.roll(other, generator.integers(-9, 10, 2), axis=(1, 2))
    return np.maximum(images, _each(generator, len(images), 0.15, 0.5) * other)


def _affine(images: Floats, generator: np.random.Generator) -> Floats:
    """Rotate, scale, shear and shift, more than handwriting varies."""
    count = len(images)
    rows, columns = _grid(images)
    angle = np.radians(_each(generator, count, -30, 30))
    size = np.exp(_each(generator, count, -0.3, 0.45))
    slant = _each(generator, count, -0.5, 0.5)
    cos, sin = np.cos(angle) * size, np.sin(angle) * size
    y, x = rows - _each(generator, count, -4, 4), columns - _each(generator, count, -4, 4)
    x = x + slant * y
    half = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
    return sampled(images, cos * y - sin * x + half[0], sin * y + cos * x + half[1])


def _elastic(images: Floats, generator: np.random.Generator) -> Floats:
    count, height, width = images.shape
    fields = generator.standard_normal((2, count, height, width), np.float32)
    smooth = generator.uniform(1.5, 4)
    fields = ndimage.gaussian_filter(fields, (0, 0, smooth, smooth))
    fields *= generator.uniform(0.6, 1.5) / fields.std()
    return sampled(
        images,
        np.arange(height, dtype=np.float32)[:, None] + fields[0],
        np.arange(width, dtype=np.float32)[None] + fields[1],
    )


def _grating(images: Floats, generator: np.random.Generator) -> Floats:
    """Add or blend in waves, smooth or square."""
    count = len(images)
    across, _ = _across(images, generator)
    period, phase = _each(generator, count, 2, 14), _each(generator, count, 0, 2 * np.pi)
    waves = np.sin(2 * np.pi * across / period + phase)
    waves = np.where(generator.random((count, 1, 1)) < 0.4, np.sign(waves), waves)
    strength = _each(generator, count, 0.1, 0.55)
    if generator.random() < 0.5:
        return images + strength * waves
    return (1 - strength) * images + strength * (waves + 1) / 2


def _negative(images: Floats, generator: np.random.Generator) -> Floats:
    """Invert one side of an edge."""
    across, _ = _across(images, generator)
    return np.where(across > _each(generator, len(images), -8, 8), 1 - images, images)


def _light(images: Floats, generator: np.random.Generator) -> Floats:
    """Light the picture from one side, or with a spot."""
    count = len(images)
    across, along = _across(images, generator)
    if generator.random() < 0.5:
        light = 0.5 + across / 28
    else:
        y, x = across - _each(generator, count, -10, 10), along - _each(generator, count, -10, 10)
        light = np.exp(-(y**2 + x**2) / (2 * _each(generator, count, 4, 12) ** 2))
    strength = _each(generator, count, 0.2, 0.8)
    if generator.random() < 0.4:
        return images * (1 - strength * light)
    return images + strength * light * (1 - images * _each(generator, count, 0, 1))


FAMILIES: Final[dict[str, Disturbance]] = {
    "random convolution": _convolution,
    "erasing": _erasing,
    "colored noise": _colored_noise,
    "added texture": _added_texture,
    "brightest of texture": _brightest_texture,
    "tone": _tone,
    "stroke width": _stroke,
    "outline": _outline,
    "threshold": _threshold,
    "blur": _blur,
    "rescaling": _rescaled,
    "quantization": _quantized,
    "bars": _bars,
    "curves": _curves,
    "blots": _blots,
    "ghost": _ghost,
    "affine": _affine,
    "elastic": _elastic,
    "grating": _grating,
    "negative": _negative,
    "light": _light,
}
"""Families used in training, with equal probability."""
_NAMES: Final = tuple(FAMILIES)
