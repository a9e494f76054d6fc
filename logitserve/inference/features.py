"""Features of pictures and predictions for drift detection.

Of the predictions: class, confidence, and similarity to the training data. Of the pixels:
brightness and sharpness, since blur and noise hardly change the predictions of a robust network.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import FeatureName, Head, Histogram, ModelCard, Reference
from logitserve.inference.predictor import Predictions

Values = dict[FeatureName, npt.NDArray[np.floating[Any]]]
"""Feature → its value for each picture, `[n]`."""

MOST_PICTURES: Final = 5000
"""Maximum number of pictures for a reference."""
_MOST_PIXELS: Final = 2**14
"""Maximum number of sampled pixels per picture."""
_MOST_VALUES: Final = 16
"""A feature with at most this many distinct values has a bin for each; others have ten bins."""


def measure(images: npt.NDArray[np.uint8], predictions: Predictions, card: ModelCard) -> Values:
    """Compute the features of a batch.

    `classes`: index of the most probable label; for a sigmoid head `labels`, the number of labels.
    `margin`: softmax: the largest raw logit minus the second; sigmoid: the largest; binary: |z|.
    `energy`: −T·ln Σ exp(z/T), softmax only. `known`: 1 or 0, if the card can tell.
    `brightness`: mean gray level. `sharpness`: mean |second difference| / mean |first difference|
    along rows: 0 for linear gradients, about 1.7 for noise.

    Args:
        images: uint8 `[n, height, width, channels]`, the network's input.
        predictions: calibrated, of the same images.
        card: card of the model.
    """
    logits, argmax = predictions.logits, predictions.argmax
    found: Values = {}
    if card.head is Head.SIGMOID:
        holds = predictions.probabilities >= heads.thresholds(card)
        found["labels"] = np.count_nonzero(holds, axis=1).astype(np.float64)
    else:
        found["classes"] = argmax.astype(np.float64)
        if card.head is Head.SOFTMAX:
            rows = np.arange(len(logits))
            share = predictions.probabilities[rows, argmax]
            found["energy"] = card.temperature * np.log(share) - logits[rows, argmax]
    found["margin"] = margins(logits, card.head)
    found["brightness"], found["sharpness"] = _of_pixels(images)
    if predictions.known is not None:
        found["known"] = predictions.known.astype(np.float64)
    return found


def margins(logits: npt.NDArray[np.floating[Any]], head: Head) -> npt.NDArray[np.floating[Any]]:
    """Return the `margin` of raw logits `[n, k]`: `[n]`; softmax logits may have an offset."""
    if head is Head.SIGMOID:
        return np.asarray(logits.max(axis=1))
    if head is Head.BINARY:
        return np.asarray(np.abs(logits[:, 0]))
    second, top = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(top - second)


def _of_pixels(images: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.float32]]:
    """Return brightness and sharpness, sampled from every few rows of large images."""
    count, height, width, channels = images.shape
    step = -(-height * width * channels // _MOST_PIXELS)
    rows = images[:, step // 2 :: step].astype(np.float32)
    rows = rows.reshape(count, -1, width * channels)
    first = rows[:, :, channels:] - rows[:, :, :-channels]
    second = first[:, :, channels:] - first[:, :, :-channels]
    slopes, bends = (np.abs(each).reshape(count, -1).sum(axis=1) for each in (first, second))
    sharpness = bends * first[0].size / np.maximum(slopes * max(second[0].size, 1), 1)
    return rows.reshape(count, -1).mean(axis=1), sharpness


def joined(parts: Sequence[Values]) -> Values:
    """Concatenate the values of several batches."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reference(values: Values, card: ModelCard, accuracy: float | None = None) -> Reference:
    """Return the reference distribution of held-out pictures."""
    histograms = {}
    for name, found in values.items():
        distinct = np.unique(found)
        if name == "known":
            distinct = np.arange(2.0)
        elif name == "classes" and len(card.labels) <= _MOST_VALUES:
            distinct = np.arange(len(card.labels), dtype=np.float64)
        edges = distinct[1:]
        if len(distinct) > _MOST_VALUES:
            tenths = np.quantile(found, np.arange(1, 10) / 10, method="inverted_cdf")
            edges = np.unique([float(f"{edge:.5g}") for edge in tenths])
        counts = np.bincount(edges.searchsorted(found, "right"), minlength=len(edges) + 1)
        histograms[name] = Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
    pictures = len(values["brightness"])
    return Reference(pictures=pictures, features=histograms, accuracy=accuracy)


class Bins:
    """The bins of all features of a reference, concatenated."""

    def __init__(self, features: Mapping[FeatureName, Histogram]) -> None:
        self.of: dict[FeatureName, slice] = {}
        """Feature → position of its bins."""
        self.width = 0
        self._edges = {name: np.array(each.edges) for name, each in features.items()}
        for name, each in features.items():
            self.of[name] = slice(self.width, self.width + len(each.counts))
            self.width += len(each.counts)

    def count(self, values: Values) -> npt.NDArray[np.int64]:
        """Count the values in each bin, `[width]`."""
        places = [
            edges.searchsorted(values[name], "right") + self.of[name].start
            for name, edges in self._edges.items()
        ]
        return np.bincount(np.concatenate(places), minlength=self.width)
