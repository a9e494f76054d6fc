"""Check that a prepared image has ink similar to that of the training images.

A network gives an answer for any input, and a sheet without ink may be its surest "1". So a few
statistics of each image are compared with their ranges over the training images.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Fit, Ink, InputSpec

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

TAIL: Final = 0.0005
"""Share of the images that may lie beyond each end of a range."""
_FULL: Final = 128
"""Gray level from which a pixel counts as ink."""
_CHUNK: Final = 4096
"""Batch size of the measurement."""


def numbers(images: Images, spec: InputSpec) -> Floats:
    """Return the statistics of each image, `[n, numbers]`.

    Args:
        images: uint8, `[n, height, width, channels]`.
        spec: the network's input. Handwriting: ink, stroke width, share of ink in the interior, and
            components less holes. Other images: the standard deviation of the pixels.
    """
    measure = _of_strokes if spec.fit is Fit.DIGIT else _of_pixels
    parts = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    return np.concatenate([measure(part) for part in parts])


def ranges(images: Images, spec: InputSpec) -> Ink:
    """Return the range of each statistic over training images, `[n, height, width, channels]`.

    Each end of a range excludes ⌊(n + 1)·`TAIL`⌋ of n images, so that a new image is beyond it with
    at most that probability; with too few images, the ends are the extremes.
    """
    ascending = np.sort(numbers(images, spec), axis=0)
    beyond = max(int((len(images) + 1) * TAIL), 1)
    return Ink(
        lowest=tuple(ascending[beyond - 1].tolist()),
        highest=tuple(ascending[-beyond].tolist()),
        pictures=len(images),
    )


def are_odd(images: Images, spec: InputSpec, within: Ink) -> npt.NDArray[np.bool_]:
    """Return whether each image has no ink, or ink unlike the training images: bool `[n]`."""
    found = numbers(images, spec)
    return np.asarray(((found < within.lowest) | (found > within.highest)).any(axis=1))


def _of_pixels(images: Images) -> Floats:
    return np.asarray(images.reshape(len(images), -1).std(axis=1, dtype=np.float64))[:, np.newaxis]


def _of_strokes(images: Images) -> Floats:
    count, height, width, _ = images.shape
    ink = np.zeros((count, height + 2, width + 2), np.int16)
    ink[:, 1:-1, 1:-1] = images[..., 0]
    mass = ink.sum(axis=(1, 2), dtype=np.float64)
    corner = ink[:, :-1, :-1]
    down, across = ink[:, 1:, :-1] - corner, ink[:, :-1, 1:] - corner
    outline = np.hypot(down, across, dtype=np.float32).sum(axis=(1, 2))
    full = ink >= _FULL
    inside = full[:, 1:-1, 1:-1].copy()
    for shifted in (full[:, :-2, 1:-1], full[:, 2:, 1:-1], full[:, 1:-1, :-2], full[:, 1:-1, 2:]):
        inside &= shifted
    return np.stack(
        [
            mass / 255,
            2 * mass / np.maximum(outline, 1),  # twice the area / the length of the outline
            inside.sum(axis=(1, 2)) / np.maximum(full.sum(axis=(1, 2)), 1),
            _euler(full),
        ],
        axis=1,
    )


def _euler(full: npt.NDArray[np.bool_]) -> Floats:
    """Return the Euler number, components less holes, 8-connected (Gray 1971), `[n]`."""
    ink = full.view(np.int8)
    pairs = ink[:, :-1] + ink[:, 1:]
    quads = pairs[:, :, :-1] + pairs[:, :, 1:]
    diagonal = (quads == 2) & (full[:, :-1, :-1] == full[:, 1:, 1:])
    curls = (quads == 1).view(np.int8) - (quads == 3) - 2 * diagonal.view(np.int8)
    return np.asarray(curls.sum(axis=(1, 2), dtype=np.float64) / 4)
