"""Decode files to pictures of one size, which is chosen from the files."""

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from logitserve.inference import images as codec
from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import ImageError
from logitserve_training.datasets import layouts
from logitserve_training.datasets.dataset import Images
from logitserve_training.datasets.listing import Listing, named
from logitserve_training.errors import DataFormatError
from logitserve_training.progress import Reporter
from logitserve_training.recipes import FolderOptions

LONGEST_SIDE: Final = 80
"""Default input size in pixels."""
_LEAST_SIDE: Final = 8
_SAMPLE: Final = 200
"""Number of pictures sampled to choose size and color."""
_ASPECT_SPREAD: Final = 1.15
"""Largest ratio of aspect ratios for stretching; beyond it pictures are padded."""
_LARGER: Final = 1.25
"""Input size relative to the size in the backbone's training."""
_LONGEST_ASPECT: Final = 2.0
_STEP: Final = 16
"""Granularity in pixels: half of the total stride of most networks."""


def input_of(listed: Listing, options: FolderOptions) -> InputSpec:
    """Choose the network's input from the options and a sample of the pictures."""
    rows = np.unique(np.linspace(0, len(listed.paths) - 1, _SAMPLE).astype(np.int64))
    sample = [found for row in rows if (found := _samples(listed.paths[row])) is not None]
    if not sample:
        raise DataFormatError(f"none of the files can be read as a picture: {named(listed.names)}")
    heights, widths = np.array([found.shape[:2] for found in sample], dtype=np.float64).T
    aspects = np.sort(widths / heights)
    low, high = np.quantile(aspects, [0.1, 0.9])
    scale = min(1.0, LONGEST_SIDE / float(max(np.median(heights), np.median(widths))))
    height, width = options.image_size or (
        max(_LEAST_SIDE, round(scale * float(np.median(side)))) for side in (heights, widths)
    )
    channels: Literal[1, 3] = 3 if any(map(_is_colored, sample)) else 1
    return InputSpec(
        height=height,
        width=width,
        channels=options.channels or channels,
        fit=Fit.STRETCH if high <= _ASPECT_SPREAD * low else Fit.PAD,
    )


def enlarged(data: Path, options: FolderOptions, native: tuple[int, int]) -> tuple[int, int]:
    """Return a height and width for a backbone: the pictures' aspect ratio, slightly enlarged.

    Networks trained on random crops classify better at a larger test size (Touvron, Vedaldi, Douze,
    Jégou 2019, "Fixing the train-test resolution discrepancy", arXiv:1906.06423) than `native`, the
    height and width that the backbone was exported for.
    """
    shown = input_of(layouts.read(data, options), replace(options, image_size=None))
    aspect = float(np.clip(shown.width / shown.height, 1 / _LONGEST_ASPECT, _LONGEST_ASPECT))
    side = _LARGER * float(np.sqrt(native[0] * native[1]))
    height, width = (_STEP * round(one / _STEP) for one in (side / aspect**0.5, side * aspect**0.5))
    return max(height, _STEP), max(width, _STEP)


def _samples(path: Path) -> codec.Samples | None:
    try:
        return codec.decode(path.read_bytes())
    except (ImageError, OSError):
        return None  # reported by `decoded`


def _is_colored(samples: codec.Samples) -> bool:
    return (
        samples.ndim == 3
        and samples.shape[2] >= 3
        and bool(np.ptp(samples[:, :, :3], axis=2).any())
    )


def decoded(listed: Listing, spec: InputSpec, reporter: Reporter) -> tuple[Images, Listing]:
    """Return the readable pictures, `[n, height, width, channels]`, and their listing."""
    images = np.zeros((len(listed.paths), *spec.shape), np.uint8)
    broken: dict[int, str] = {}
    with reporter.steps("read", len(listed.paths)) as advance:
        for row, path in enumerate(listed.paths):
            try:
                images[row] = preprocessing.decode(path.read_bytes(), spec)
            except (ImageError, OSError) as error:
                broken[row] = f"{listed.names[row]} ({error})"
            advance(1)
    if broken:
        reporter.line(
            f"left out {len(broken)} of {len(listed.paths)} files that are not complete pictures: "
            f"{named(list(broken.values()))}"
        )
    rows = np.setdiff1d(np.arange(len(listed.paths)), list(broken))
    listed = listed[rows]
    lost = [
        label
        for label, outcomes in zip(listed.labels, listed.outcomes.T, strict=True)
        if not outcomes.any()
    ]
    if lost:
        raise DataFormatError(f"no readable picture shows {named(lost)}")
    return images[rows], listed
