"""Features of pictures and predictions, against sums that are written out."""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from logitserve.inference import features
from logitserve.inference.card import Energy, Fit, Head, Histogram, InputSpec, ModelCard
from logitserve.inference.features import Bins, Values
from logitserve.inference.predictor import Predictions
from tests import tiny_models

Floats = npt.NDArray[np.float64]


def card_of(spec: InputSpec, **fields: object) -> ModelCard:
    labels = fields.get("labels", tiny_models.DIGIT_LABELS)
    width = 1 if fields.get("head") is Head.BINARY else len(labels)  # type: ignore[arg-type]
    return tiny_models.card_for(tiny_models.weights(spec, width, 0), spec=spec, **fields)  # type: ignore[arg-type]


def drawn(spec: InputSpec, count: int) -> npt.NDArray[np.uint8]:
    return np.stack([tiny_models.random_picture(seed, spec) for seed in range(count)])


def said(card: ModelCard, count: int) -> Predictions:
    logits = np.random.default_rng(1).normal(0, 3, (count, card.logit_count)).astype(np.float32)
    return Predictions.of(logits, card)


def spec_of(height: int, width: int, channels: int) -> InputSpec:
    return InputSpec.model_validate(
        {"height": height, "width": width, "channels": channels, "fit": Fit.STRETCH}
    )


@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (9, 5, 3), (150, 200, 3)])
def test_brightness_and_sharpness(height: int, width: int, channels: int) -> None:
    spec = spec_of(height, width, channels)
    card, images = card_of(spec), drawn(spec, 3)
    found = features.measure(images, said(card, 3), card)
    step = max(1, math.ceil(height * width * channels / 2**14))
    for number, image in enumerate(images.astype(float)):
        rows = [image[row] for row in range(step // 2, height, step)]
        slopes = [
            row[x + 1, c] - row[x, c]
            for row in rows
            for x in range(width - 1)
            for c in range(channels)
        ]
        bends = [
            row[x + 2, c] - 2 * row[x + 1, c] + row[x, c]
            for row in rows
            for x in range(width - 2)
            for c in range(channels)
        ]
        sharp = np.mean(np.abs(bends)) / np.mean(np.abs(slopes))
        assert found["brightness"][number] == pytest.approx(np.mean(rows), rel=1e-5)
        assert found["sharpness"][number] == pytest.approx(sharp, rel=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_empty_and_tiny_pictures_have_numbers(width: int) -> None:
    spec = spec_of(2, width, 1)
    card = card_of(spec)
    found = features.measure(np.zeros((4, 2, width, 1), np.uint8), said(card, 4), card)
    assert found["sharpness"].tolist() == found["brightness"].tolist() == [0] * 4


def test_sharpness_orders_blur_and_noise() -> None:
    spec = spec_of(64, 64, 1)
    card = card_of(spec)
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8)
    slope = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (1, 64, 64, 1))
    images = np.concatenate([slope, noise])
    found = features.measure(images, said(card, 2), card)["sharpness"]
    assert found[0] == 0
    assert found[1] == pytest.approx(math.sqrt(3), rel=0.05)  # of normal noise exactly


def test_softmax_predictions() -> None:
    energy = Energy(threshold=-5, known_share=0.9, pictures=100)
    card = card_of(tiny_models.SPEC, temperature=1.7, energy=energy)
    predictions = said(card, 50)
    found = features.measure(drawn(tiny_models.SPEC, 50), predictions, card)
    for row, logits in enumerate(predictions.logits.astype(float).tolist()):
        first, second, *_ = sorted(logits, reverse=True)
        lowest = -1.7 * math.log(sum(math.exp(each / 1.7) for each in logits))
        assert found["margin"][row] == pytest.approx(first - second, abs=1e-5)
        assert found["energy"][row] == pytest.approx(lowest, abs=1e-5)
        assert found["classes"][row] == logits.index(first)
        assert found["known"][row] == (lowest <= -5)


def test_sigmoid_and_binary_predictions() -> None:
    labels = ("car", "bus", "tram")
    thresholds = (0.2, 0.5, 0.8)
    card = card_of(tiny_models.SPEC, head=Head.SIGMOID, labels=labels, thresholds=thresholds)
    predictions = said(card, 20)
    found = features.measure(drawn(tiny_models.SPEC, 20), predictions, card)
    assert set(found) == {"labels", "margin", "brightness", "sharpness"}
    for row, logits in enumerate(predictions.logits.tolist()):
        chances = [1 / (1 + math.exp(-each)) for each in logits]
        holding = sum(p >= least for p, least in zip(chances, thresholds, strict=True))
        assert found["labels"][row] == holding
        assert found["margin"][row] == pytest.approx(max(logits))

    card = card_of(tiny_models.SPEC, head=Head.BINARY, labels=("no", "yes"))
    predictions = said(card, 20)
    found = features.measure(drawn(tiny_models.SPEC, 20), predictions, card)
    assert set(found) == {"classes", "margin", "brightness", "sharpness"}
    assert found["margin"].tolist() == np.abs(predictions.logits[:, 0]).tolist()


def values(seed: int, count: int, card: ModelCard) -> Values:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (count, 10)).astype(np.float32)
    images = generator.integers(0, 256, (count, *card.input.shape), dtype=np.uint8)
    return features.measure(images, Predictions.of(logits, card), card)


def test_a_reference_has_ten_equal_bins_and_one_a_class() -> None:
    card = card_of(tiny_models.SPEC, energy=Energy(threshold=9, known_share=1, pictures=9))
    found = values(0, 1000, card)
    normal = features.reference(found, card, accuracy=0.5)
    assert (normal.pictures, normal.accuracy) == (1000, 0.5)
    for name in ("margin", "energy", "brightness", "sharpness"):
        histogram = normal.features[name]
        assert len(histogram.counts) == 10
        assert all(90 <= count <= 110 for count in histogram.counts)
    counted = [found["classes"].tolist().count(digit) for digit in range(10)]
    assert list(normal.features["classes"].counts) == counted
    assert normal.features["known"].counts == (0, 1000)  # unknown has a bin, though none was
    assert len(normal.model_dump_json()) < 1200
    assert ModelCard.from_json(card.model_copy(update={"reference": normal}).to_json()) == (
        card.model_copy(update={"reference": normal})
    )


def test_many_classes_share_bins() -> None:
    labels = tuple(map(str, range(100)))
    card = card_of(tiny_models.SPEC, labels=labels)
    generator = np.random.default_rng(0)
    found: Values = {
        "classes": generator.integers(0, 100, 1000).astype(float),
        "brightness": np.full(1000, 7.0),
    }
    normal = features.reference(found, card)
    assert sum(normal.features["classes"].counts) == 1000
    assert len(normal.features["classes"].counts) == 10
    assert normal.features["brightness"].counts == (1000,)


@given(st.lists(st.integers(0, 99), min_size=0, max_size=5), st.integers(0, 2**31))
def test_counts_of_parts_add_up_to_those_of_the_whole(cuts: list[int], seed: int) -> None:
    card = card_of(spec_of(4, 4, 1))
    bins = Bins(features.reference(values(0, 200, card), card).features)
    whole = values(seed, 100, card)
    ends = [0, *sorted(cuts), 100]
    parts = [
        {name: found[begin:end] for name, found in whole.items()} for begin, end in pairwise(ends)
    ]
    total = sum((bins.count(part) for part in parts), np.zeros(bins.width, np.int64))
    assert total.tolist() == bins.count(whole).tolist()
    assert bins.count(features.joined(parts)).tolist() == total.tolist()
    assert all(total[place].sum() == 100 for place in bins.of.values())


@pytest.mark.parametrize(
    ("edges", "counts"), [((1.0,), (1,)), ((2.0, 1.0), (1, 1, 1)), ((1.0,), (0, 0))]
)
def test_histograms_that_are_none(edges: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"edges|counts"):
        Histogram(edges=edges, counts=counts)
