import math
import os
from pathlib import Path

import numpy as np
import pytest

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.monitoring.receipts import (
    ID_LENGTH,
    Receipts,
    bytes_of,
    model_key,
    receipt_of,
    text_of,
)
from tests.tiny_models import random_picture

KEY = b"k" * 32


@pytest.fixture
def card(predictor: Predictor) -> ModelCard:
    return predictor.card


def issued(
    receipts: Receipts, predictor: Predictor, count: int = 3
) -> tuple[list[str], Predictions]:
    images = np.stack([random_picture(seed) for seed in range(count)])
    predictions = predictor.predict(images)
    return receipts.of(predictor.card)(predictions, images, ()), predictions


def test_an_id_says_what_the_answer_said(predictor: Predictor) -> None:
    receipts = Receipts([KEY])
    ids, predictions = issued(receipts, predictor, 70)
    assert len(set(ids)) == 70
    for row, identity in enumerate(ids):
        assert len(identity) == ID_LENGTH
        raw = receipts.read(identity)
        assert raw is not None
        assert text_of(raw) == identity
        found = receipt_of(raw)
        assert found.model == model_key("tiny", "1")
        assert found.argmax == predictions.argmax[row]
        p = predictions.probabilities[row].max()
        assert found.log_odds == pytest.approx(math.log(p / (1 - p)), rel=1e-3, abs=1e-3)
        assert found.chance == 0


def test_every_bit_is_signed(predictor: Predictor) -> None:
    receipts = Receipts([KEY])
    raw = bytes_of(issued(receipts, predictor)[0][0])
    assert raw is not None
    for bit in range(8 * len(raw)):
        forged = bytearray(raw)
        forged[bit // 8] ^= 1 << bit % 8
        assert receipts.read(text_of(bytes(forged))) is None, bit


@pytest.mark.parametrize("text", ["", "a" * 43, "a" * 44, "a" * 45, "é" * 44, "=" * 44, "+" * 44])
def test_what_is_no_id(text: str) -> None:
    assert Receipts([KEY]).read(text) is None


def test_another_process_with_the_key_reads_it_and_one_without_does_not(
    predictor: Predictor,
) -> None:
    identity = issued(Receipts([KEY]), predictor)[0][0]
    assert Receipts([KEY]).read(identity)
    assert Receipts([b"new" * 10, KEY]).read(identity), "rotated"
    assert Receipts([os.urandom(32)]).read(identity) is None


@pytest.mark.parametrize("p", [0.0, 5e-324, 0.5, 0.99994, 1 - 1e-16, 1.0])
def test_no_probability_is_too_extreme(card: ModelCard, p: float) -> None:
    predictions = Predictions(
        np.zeros((1, 10), np.float32),
        np.array([[p, *[0.0] * 9]]),
        np.array([0]),
    )
    images = np.zeros((1, 28, 28, 1), np.uint8)
    receipts = Receipts([KEY])
    raw = receipts.read(receipts.of(card)(predictions, images, ())[0])
    assert raw is not None
    bounded = min(max(p, 1e-16), 1 - 1e-16)
    expected = math.log(bounded / (1 - bounded))
    assert receipt_of(raw).log_odds == pytest.approx(expected, rel=5e-3)


def test_processes_never_give_the_same_id(predictor: Predictor, tmp_path: Path) -> None:
    del tmp_path
    first, second = Receipts([KEY]), Receipts([KEY])
    assert not set(issued(first, predictor)[0]) & set(issued(second, predictor)[0])
