"""Predictions as a person or a program reads them: labels, probabilities, sets. Written once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitserve.inference import conformal, heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the answer."""

    top_k: int | None = None
    """Only so many of the probabilities, the highest first; None for all, in the card's order."""
    calibrated: bool = True
    """False: probabilities as the network gave them."""
    coverage: float | None = None
    """Adds `set`: labels that hold the true one in this share of the pictures."""


PLAIN = Wanted()


def render(
    card: ModelCard, predictions: Predictions, wanted: Wanted = PLAIN
) -> list[dict[str, Any]]:
    """One dictionary a picture: argmax, label, probability, probabilities, and what is added.

    Added are `labels` for sigmoid heads, those at or above their thresholds; `known` where the
    card has an energy threshold; `set` where coverage is asked for.
    """
    said = predictions if wanted.calibrated else predictions.uncalibrated(card)
    labels = card.labels
    rendered: list[dict[str, Any]] = [
        {
            "argmax": argmax,
            "label": labels[argmax],
            "probability": probabilities[argmax],
            "probabilities": dict(zip(labels, probabilities, strict=True)),
        }
        for probabilities, argmax in zip(
            said.probabilities.tolist(), said.argmax.tolist(), strict=True
        )
    ]
    if wanted.top_k is not None:
        for prediction in rendered:
            prediction["probabilities"] = _most_probable(prediction["probabilities"], wanted.top_k)
    for member, values in _additions(card, said, wanted):
        for prediction, value in zip(rendered, values, strict=True):
            prediction[member] = value
    return rendered


def _additions(
    card: ModelCard, said: Predictions, wanted: Wanted
) -> Iterator[tuple[str, list[Any]]]:
    """Members that some predictions have, each with its value for every picture."""
    if card.head is Head.SIGMOID:
        holds = said.probabilities >= heads.thresholds(card, of_calibrated=wanted.calibrated)
        yield "labels", [_labels(card, np.flatnonzero(row)) for row in holds]
    if said.known is not None:
        yield "known", said.known.tolist()
    if wanted.coverage is not None:
        sets = conformal.prediction_sets(card, said.logits, wanted.coverage)
        yield "set", [_labels(card, indices) for indices in sets]


def _labels(card: ModelCard, indices: Iterable[int]) -> list[str]:
    return [card.labels[index] for index in indices]


def _most_probable(named: dict[str, float], count: int) -> dict[str, float]:
    return dict(sorted(named.items(), key=lambda item: -item[1])[:count])
