"""A model with a reference, and pictures that are like it or not."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from logitserve.inference import features
from logitserve.inference.card import Reference
from logitserve.inference.predictor import Predictions
from tests import tiny_models

Images = npt.NDArray[np.uint8]


def clean(count: int, seed: int) -> Images:
    """Noise of any brightness, `[count, 28, 28, 1]`."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(0, 20, (count, 28, 28, 1))
    return np.clip(noise + generator.uniform(60, 190, (count, 1, 1, 1)), 0, 255).astype(np.uint8)


def blurred(count: int, seed: int) -> Images:
    """The same out of focus: as bright, and less sharp."""
    found = ndimage.gaussian_filter(clean(count, seed).astype(float), (0, 0.6, 0.6, 0))
    return np.asarray(np.rint(found)).astype(np.uint8)


def reference_of(images: Images, seed: int = 0) -> Reference:
    """Of a linear model with the weights of this seed."""
    matrix = tiny_models.weights(tiny_models.SPEC, 10, seed)
    card = tiny_models.card_for(matrix)
    logits = tiny_models.linear_logits(images, matrix).astype(np.float32)
    values = features.measure(images, Predictions.of(logits, card), card)
    return features.reference(values, card)


def publish(models: Path, **fields: Any) -> None:
    """A linear model `tiny` whose reference are 3,000 clean pictures, if none is given."""
    fields.setdefault("reference", reference_of(clean(3000, seed=0)))
    tiny_models.publish(models, **fields)
