"""When there is an estimate without labels, and when there is none."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from logitserve.inference import features, heads
from logitserve.inference.card import Head, LabelScaling, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.monitoring.label_free import why_silent
from logitserve_service.monitoring.store_writer import packed
from tests import tiny_models

Logits = npt.NDArray[np.float64]


def drawn(count: int, seed: int, spread: float = 3.0) -> Logits:
    return np.random.default_rng(seed).normal(0, spread, (count, 10))


def card_of(pictures: int = 5000, **fields: Any) -> ModelCard:
    """A card whose reference are so many pictures."""
    outputs = 1 if fields.get("head") is Head.BINARY else 10
    card = tiny_models.card_for(tiny_models.weights(tiny_models.SPEC, outputs, 0), **fields)
    logits = drawn(pictures, 0)[:, :outputs]
    images = np.zeros((pictures, 4, 4, 1), np.uint8)
    values = features.measure(images, Predictions.of(logits.astype(np.float32), card), card)
    return card.model_copy(update={"reference": features.reference(values, card)})


def kept(card: ModelCard, logits: Logits) -> Logits:
    """Logits as the store has them."""
    if card.head is Head.BINARY:
        logits = logits[:, :1]
    return packed(heads.calibrated(logits, card), card.head).astype(np.float64)


CARDS = [
    card_of(),
    card_of(temperature=2.5),
    card_of(
        head=Head.BINARY, labels=("no", "yes"), scaling=(LabelScaling(scale=2, bias=0.7),)
    ),
]  # fmt: skip


@pytest.mark.parametrize("card", CARDS, ids=["softmax", "with a temperature", "binary"])
def test_predictions_that_are_as_sure_as_they_were(card: ModelCard) -> None:
    assert why_silent(card, 1.0, kept(card, drawn(3000, 1))) == ""
    for spread in (1.5, 6.0):
        reason = why_silent(card, 1.0, kept(card, drawn(3000, 1, spread)))
        assert reason.startswith("the margins of the predictions differ"), spread


def test_few_pictures_are_not_taken_for_the_same() -> None:
    usual, few = card_of(), card_of(pictures=30)
    assert why_silent(usual, 1.0, kept(usual, drawn(40, 1))).startswith(
        "only 40 answers are stored"
    )
    assert "plus 0." in why_silent(few, 1.0, kept(few, drawn(3000, 1)))


def test_without_what_it_takes() -> None:
    card = card_of()
    logits = kept(card, drawn(3000, 1))
    assert why_silent(card, 0.94, logits).startswith("only 94.0% of the images are known")
    bare = card.model_copy(update={"reference": None})
    assert "--reference FOLDER" in why_silent(bare, 1.0, logits)
