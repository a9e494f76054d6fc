"""Check that a prepared image has ink similar to that of the training images.

A network gives an answer for any input, and a sheet without ink may be its surest "1". So a few
statistics of each image are compared with their ranges over the training images.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Fit, Ink, InputSpec
from logitserve.inference.mnist.strokes import strokes

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

TAIL: Final = 0.0005
"""Share of the images that may lie beyond each end of a range."""
_CHUNK: Final = 4096
"""Number of images whose pixels are converted to float64 at a time."""


def numbers(images: Images, spec: InputSpec) -> Floats:
    """Return the statistics of each image, `[n, numbers]`.

    Args:
        images: uint8, `[n, height, width, channels]`.
        spec: the network's input. Handwriting: ink, stroke width, share of ink in the interior, and
            components less holes. Other images: the standard deviation of the pixels.
    """
    if spec.fit is Fit.DIGIT:
        return strokes(np.ascontiguousarray(images[..., 0]))
    flat = images.reshape(len(images), -1)
    parts = (flat[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    return np.concatenate([part.std(axis=1, dtype=np.float64) for part in parts])[:, np.newaxis]


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
