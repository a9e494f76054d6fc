"""One image as the body, how predictions are written, and which codec reads what."""

import json
from typing import Any

import numpy as np
import pytest

from logitserve.inference.rendering import PLAIN, OutputOptions
from logitserve_service.api import codecs, predict, v1, v2
from logitserve_service.api.call import Codec
from logitserve_service.api.codecs import codec_of
from logitserve_service.errors import UnsupportedMediaTypeError, UnusableRequestError
from tests.service.api.codec_helpers import (
    CARD,
    IMAGES,
    LIMITS,
    WEIGHTS,
    content,
    result,
    softmax,
)
from tests.tiny_models import linear_logits


def test_raw() -> None:
    call = predict.read_file(content(b"\x89PNG"), CARD, LIMITS)
    assert (call.inputs, call.options) == ([b"\x89PNG"], PLAIN)
    call = predict.read_file(content(b"", query=b"calibrated=0"), CARD, LIMITS)
    assert (call.inputs, call.options) == ([b""], OutputOptions(calibrated=False))
    with pytest.raises(UnusableRequestError, match="did you mean 'top_k'"):
        predict.read_file(content(b"1", query=b"topk=3"), CARD, LIMITS)


def test_predictions_are_written_in_full() -> None:
    call = predict.read_file(content(b"1"), CARD, LIMITS)
    written, head = predict.write(call, result(call.options))
    assert head == b"content-type: application/json\r\n"
    body: dict[str, Any] = json.loads(written)
    assert (body["model"], body["version"]) == (CARD.name, CARD.version)
    expected = softmax(linear_logits(IMAGES, WEIGHTS))
    for prediction, probabilities in zip(body["predictions"], expected, strict=True):
        assert prediction["argmax"] == probabilities.argmax()
        assert prediction["label"] == str(probabilities.argmax())
        assert list(prediction["probabilities"]) == list(CARD.labels)
        found = list(prediction["probabilities"].values())
        np.testing.assert_allclose(found, probabilities, atol=1e-6)


RAW = Codec(predict.read_file, predict.write, instant=True)
JSON = Codec(predict.read_json_images, predict.write)
FORM = Codec(predict.read_form, predict.write)


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        (None, RAW),
        (b"image/png", RAW),
        (b"IMAGE/PNG ; q=1", RAW),
        (b"application/octet-stream", RAW),
        (b"binary/octet-stream", RAW),
        (b"image/jpg", RAW),
        (b"image/x-ms-bmp", RAW),
        (b"", RAW),
        (b" ; charset=x", RAW),
        (b"application/json", JSON),
        (b"application/json; charset=utf-8", JSON),
        (b"Multipart/Form-Data; boundary=XY", FORM),
    ],
)
def test_the_content_type_chooses_the_codec(content_type: bytes | None, codec: Codec) -> None:
    assert codec_of("predict", content_type) == codec


@pytest.mark.parametrize("content_type", [b"text/plain", b"text/html", b"\xff"])
def test_other_content_types(content_type: bytes) -> None:
    with pytest.raises(
        UnsupportedMediaTypeError, match=r"image/png.*multipart/form-data, application/json$"
    ):
        codec_of("predict", content_type)


def test_protocols_take_any_content_type() -> None:
    assert codecs.FORMS == ("predict", "v2", "v1")
    for content_type in (None, b"text/plain"):
        assert codec_of("v2", content_type) == Codec(v2.read, v2.write)
        assert codec_of("v1", content_type) == Codec(v1.read, v1.write)
