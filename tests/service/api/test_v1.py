"""TensorFlow Serving's form: bytes → `Call`, `Result` → bytes."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from logitserve_service.api.v1 import read, write
from logitserve_service.errors import (
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from tests.service.api.codec_helpers import (
    CARD,
    IMAGES,
    LIMITS,
    SMALL_CARD,
    SMALL_IMAGES,
    WEIGHTS,
    Pixels,
    assert_same,
    content,
    result,
    softmax,
)
from tests.tiny_models import linear_logits, png

FILES = [png(image) for image in IMAGES]
B64 = [{"b64": base64.b64encode(data).decode()} for data in FILES]
ROWS = IMAGES.tolist()
ONE = ROWS[0]


@given(SMALL_IMAGES)
def test_pixels_round_trip(images: Pixels) -> None:
    rows = images.tolist()
    for body in (
        {"instances": rows},
        {"instances": [{"image": row} for row in rows]},
        {"inputs": rows, "signature_name": None},
        {"inputs": {"image": rows}, "signature_name": "serving_default"},
    ):
        assert_same(read(content(body), SMALL_CARD, LIMITS).inputs, images)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": B64},
        {"instances": [{"image": file} for file in B64]},
        {"inputs": B64},
        {"inputs": {"image": B64}},
    ],
)
def test_encoded_images(body: Any) -> None:
    call = read(content(body), CARD, LIMITS)
    assert call.inputs == FILES
    assert call.options is None


@pytest.mark.parametrize(
    ("asked", "answered"), [("instances", "predictions"), ("inputs", "outputs")]
)
def test_the_response_has_the_probabilities(asked: str, answered: str) -> None:
    written, head = write(read(content({asked: ROWS}), CARD, LIMITS), result())
    assert head == b"content-type: application/json\r\n"
    (member,) = (body := json.loads(written))
    assert member == answered
    expected = softmax(linear_logits(IMAGES, WEIGHTS))
    np.testing.assert_allclose(body[member], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "instances.*inputs"),
        ({}, "instances.*inputs"),
        ({"instances": ROWS, "inputs": ROWS}, "one of them"),
        ({"instance": ROWS}, "'instance'; did you mean 'instances'"),
        ({"instances": ROWS, "signature": ""}, "'signature'; did you mean 'signature_name'"),
        ({"instances": []}, "at least one"),
        ({"instances": 7}, "list"),
        ({"instances": {"image": ROWS}}, "list"),
        ({"inputs": {"x": ROWS}}, r"\['x'\].*'image'"),
        ({"inputs": {}}, "'image'"),
        ({"inputs": {"image": ROWS, "x": 1}}, "'image'"),
        ({"instances": [{"x": ONE}]}, r"instances\[0\].*\['x'\]"),
        ({"instances": ROWS, "signature_name": "train"}, "'train'.*serving_default"),
        ({"instances": ROWS, "signature_name": []}, "serving_default"),
        ({"instances": ONE}, r"not nested as shape \[28, 28, 28, 1\]"),
        ({"instances": [ONE, ONE[:-1]]}, r"\[2, 28, 28, 1\]"),
        ({"instances": [ONE, B64[0]]}, "all lists of 28×28×1.*b64"),
        ({"instances": ["text"]}, "b64"),
        ({"instances": [B64[0], {"b64": "*"}]}, r"instances\[1\] is not base64"),
        ({"instances": [{"b64": 5}]}, r"instances\[0\] is not a string"),
        ({"instances": [{"b64": "QUJD", "x": 1}]}, r"instances\[0\]"),
        ({"instances": (IMAGES / 255).tolist()}, "whole.*255"),
        ({"instances": (IMAGES.astype(int) + 256).tolist()}, "255"),
    ],
)
def test_malformed(body: Any, words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        read(content(body), CARD, LIMITS)


def test_other_errors() -> None:
    with pytest.raises(TooManyImagesError):
        read(content({"instances": [5] * 41}), CARD, LIMITS)
    with pytest.raises(UnreadableRequestError, match="not JSON"):
        read(content(b"{"), CARD, LIMITS)
    with pytest.raises(UnusableRequestError, match="query parameter 'top_k'"):
        read(content({"instances": ROWS}, query=b"top_k=1"), CARD, LIMITS)
