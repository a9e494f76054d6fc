"""A model without a file, and requests without a server."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from logitserve.inference.card import InputSpec, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve.inference.rendering import OutputOptions, render
from logitserve_service.api.call import Content, Limits
from logitserve_service.execution.result import Result
from logitserve_service.telemetry.timing import Timing
from tests.tiny_models import SPEC, card_for, linear_logits, random_picture, weights

WEIGHTS = weights(SPEC, 10, 0)
CARD = card_for(WEIGHTS)
LIMITS = Limits(images=40, json_values=500_000)
IMAGES = np.stack([random_picture(seed) for seed in range(3)])

Pixels = npt.NDArray[np.uint8]

SMALL = InputSpec(height=2, width=3, channels=1, fit=SPEC.fit)
SMALL_CARD = card_for(weights(SMALL, 10, 0), spec=SMALL)
SMALL_IMAGES = st.integers(1, 4).flatmap(
    lambda count: st.binary(min_size=count * 6, max_size=count * 6).map(
        lambda data: np.frombuffer(data, np.uint8).reshape(-1, 2, 3, 1)
    )
)
"""What the network of `SMALL_CARD` takes."""


def content(
    body: Any, *, query: bytes = b"", fields: Mapping[bytes, bytes] | None = None
) -> Content:
    """A request; a body that is no bytes becomes JSON."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Content(encoded, fields or {}, query)


def result(
    options: OutputOptions | None = None, card: ModelCard = CARD, images: Pixels = IMAGES
) -> Result:
    """What the model answers for the images."""
    matrix = weights(card.input, card.logit_count, 0)
    predictions = Predictions.of(linear_logits(images, matrix).astype(np.float32), card)
    rendered = None if options is None else render(card, predictions, options)
    return Result(card, predictions, rendered, Timing())


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Independent of `logitserve.inference.heads`."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    quotient: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return quotient


def assert_same(found: Any, expected: Sequence[Pixels] | Pixels) -> None:
    """The same arrays of uint8, in the same order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)
