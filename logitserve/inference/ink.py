"""Whether a prepared image has ink, and such as the training's images had.

A network answers whatever it is shown, and a sheet without ink may be its surest "1". So what was
prepared is looked at too: a few numbers of each image, each within its range over the training's.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Fit, Ink, InputSpec

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

TAIL: Final = 0.0005
"""Share of the images that may lie outside of each end of a range."""
_FULL: Final = 128
"""Gray level from which a pixel is ink."""
_CHUNK: Final = 4096
"""Images that are measured at a time."""


def numbers(images: Images, spec: InputSpec) -> Floats:
    """The numbers of each image, `[n, numbers]`.

    Args:
        images: uint8, `[n, height, width, channels]`.
        spec: what the network takes. Of handwriting: ink, stroke width, share of the ink that is
            inside, pieces less holes. Of other images: the standard deviation of the pixels.
    """
    measure = _of_strokes if spec.fit is Fit.DIGIT else _of_pixels
    parts = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    return np.concatenate([measure(part) for part in parts])


def ranges(images: Images, spec: InputSpec) -> Ink:
    """The range of each number over the images of the training, `[n, height, width, channels]`.

    Of n images, each end is left to ⌊(n + 1)·`TAIL`⌋, so that one more image lies beyond it with
    at most that probability; where they are too few for that, the ends are those that were seen.
    """
    ascending = np.sort(numbers(images, spec), axis=0)
    beyond = max(int((len(images) + 1) * TAIL), 1)
    return Ink(
        lowest=tuple(ascending[beyond - 1].tolist()),
        highest=tuple(ascending[-beyond].tolist()),
        pictures=len(images),
    )


def are_odd(images: Images, spec: InputSpec, within: Ink) -> npt.NDArray[np.bool_]:
    """Whether each image has no ink, or other ink than that of the training: bool `[n]`."""
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
            2 * mass / np.maximum(outline, 1),  # twice the area over the length of the outline
            inside.sum(axis=(1, 2)) / np.maximum(full.sum(axis=(1, 2)), 1),
            _euler(full),
        ],
        axis=1,
    )


def _euler(full: npt.NDArray[np.bool_]) -> Floats:
    """Pieces less holes, of pixels that touch at corners too (Gray 1971), `[n]`."""
    ink = full.view(np.int8)
    pairs = ink[:, :-1] + ink[:, 1:]
    quads = pairs[:, :, :-1] + pairs[:, :, 1:]
    diagonal = (quads == 2) & (full[:, :-1, :-1] == full[:, 1:, 1:])
    curls = (quads == 1).view(np.int8) - (quads == 3) - 2 * diagonal.view(np.int8)
    return np.asarray(curls.sum(axis=(1, 2), dtype=np.float64) / 4)
