"""Render predictions as labels, probabilities and sets, for every output format."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitserve.inference import conformal, heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options for rendering predictions."""

    top_k: int | None = None
    """Only the k highest probabilities, in descending order; None for all, in the card's order."""
    calibrated: bool = True
    """False: probabilities without calibration."""
    coverage: float | None = None
    """Adds `set`, the prediction set for this coverage."""
    allow_empty: bool = True
    """False: the most probable label is in every set."""


PLAIN = OutputOptions()


def render(
    card: ModelCard, predictions: Predictions, options: OutputOptions = PLAIN
) -> list[dict[str, Any]]:
    """Return one dictionary per image: argmax, label, probability, probabilities, and more.

    `labels` is added for sigmoid heads, with the labels at or above their thresholds; `known` if
    the card can tell; `set` if `coverage` is given.
    """
    shown = predictions if options.calibrated else predictions.uncalibrated(card)
    labels = card.labels
    rows = shown.probabilities.tolist()
    if options.top_k is None:
        named = [dict(zip(labels, row, strict=True)) for row in rows]
    else:
        # On a tie, the lower index is first.
        order = np.argsort(-shown.probabilities, axis=1, kind="stable")[:, : options.top_k]
        named = [
            {labels[index]: row[index] for index in highest}
            for row, highest in zip(rows, order.tolist(), strict=True)
        ]
    rendered: list[dict[str, Any]] = [
        {
            "argmax": argmax,
            "label": labels[argmax],
            "probability": row[argmax],
            "probabilities": probabilities,
        }
        for row, argmax, probabilities in zip(rows, shown.argmax.tolist(), named, strict=True)
    ]
    for member, values in _additions(card, shown, options):
        for prediction, value in zip(rendered, values, strict=True):
            prediction[member] = value
    return rendered


def _additions(
    card: ModelCard, shown: Predictions, options: OutputOptions
) -> Iterator[tuple[str, list[Any]]]:
    """Yield optional fields, each with its value for every image."""
    if card.head is Head.SIGMOID:
        holds = shown.probabilities >= heads.thresholds(card, of_calibrated=options.calibrated)
        yield "labels", [_labels(card, np.flatnonzero(row)) for row in holds]
    if shown.known is not None:
        yield "known", shown.known.tolist()
    if options.coverage is not None:
        sets = conformal.prediction_sets(
            card, shown.logits, options.coverage, allow_empty=options.allow_empty
        )
        yield "set", [_labels(card, indices) for indices in sets]


def _labels(card: ModelCard, indices: Iterable[int]) -> list[str]:
    return [card.labels[index] for index in indices]
