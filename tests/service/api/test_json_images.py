"""`application/json` → images."""

import base64
import json
import tracemalloc
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from logitserve.inference.rendering import OutputOptions
from logitserve_service.api.predict import read_json_images as read
from logitserve_service.errors import (
    JsonTooDeepError,
    JsonTooLargeError,
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from tests.service.api.codec_helpers import CARD, LIMITS, Pixels, assert_same, content

TEXT = base64.b64encode(b"an image").decode()
WRITTEN = st.sampled_from(
    [
        *(str, lambda text: text.rstrip("="), lambda text: text + "\n", "\r\n".join),
        lambda text: text.replace("+", "-").replace("/", "_"),
    ]
)
"""Base64 as encoders write it: whole, without padding, in lines, in the alphabet for URLs."""
PREFIXES = st.sampled_from(["", "data:image/png;base64,", "data:;base64,", "DATA:;Base64,"])


@given(st.lists(st.tuples(st.binary(), PREFIXES, WRITTEN), min_size=1, max_size=5))
def test_base64_round_trip(files: list[tuple[bytes, str, Callable[[str], str]]]) -> None:
    texts = [prefix + write(base64.b64encode(data).decode()) for data, prefix, write in files]
    call = read(content({"images": texts}, query=b"top_k=2"), CARD, LIMITS)
    assert call.inputs == [data for data, *_ in files]
    assert call.options == OutputOptions(top_k=2)


def test_a_data_url_with_percent_signs() -> None:
    data = bytes(range(256))
    text = quote(base64.b64encode(data).decode(), safe="")
    assert "%2B" in text
    assert read(content({"images": [f"data:;base64,{text}"]}), CARD, LIMITS).inputs == [data]


def test_a_byte_order_mark_is_skipped() -> None:
    body = "\ufeff" + json.dumps({"images": [TEXT]})
    assert read(content(body.encode()), CARD, LIMITS).inputs == [b"an image"]


@given(
    array=st_numpy.arrays(np.uint8, st_numpy.array_shapes(min_dims=2, max_dims=4)),
    as_floats=st.booleans(),
)
def test_pixels_round_trip(array: Pixels, *, as_floats: bool) -> None:
    numbers = (array.astype(float) if as_floats else array).tolist()
    found = read(content({"pixels": numbers}), CARD, LIMITS).inputs
    is_one = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    assert_same(found, [array] if is_one else array)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "images.*pixels.*at least one image"),
        (None, "images.*pixels"),
        ({}, "at least one image"),
        ({"images": []}, "at least one image"),
        ({"pixels": []}, "at least one image"),
        ({"images": TEXT}, "images"),
        ({"images": [TEXT], "pixels": [[1]]}, "no other member"),
        ({"images": [TEXT], "top_k": 3}, "unknown member of the JSON: 'top_k'.*known: images"),
        ({"image": [TEXT]}, "'image'; did you mean 'images'"),
        ({"pixel": [[1]]}, "'pixel'; did you mean 'pixels'"),
        ({"images": [TEXT, 5]}, r"images\[1\] is not a string"),
        ({"images": ["not base64!"]}, r"images\[0\] is not base64"),
        ({"images": ["äöü"]}, r"images\[0\] is not base64"),
        ({"images": [TEXT[:9]]}, r"images\[0\] is not base64"),
        ({"images": ["data:image/png,abc"]}, "not a base64 one"),
        ({"images": ["data:image/png;base64"]}, "not a base64 one"),
        ({"pixels": [[0, 256]]}, r"0 \(black\) to 255"),
        ({"pixels": [[0, -1]]}, r"0 \(black\) to 255"),
        ({"pixels": [[0, 256.0]]}, r"0 \(black\) to 255"),
        ({"pixels": [[0, 0.5]]}, "whole"),
        ({"pixels": [[0, None]]}, "whole"),
        ({"pixels": [[0, "1"]]}, "whole"),
        ({"pixels": [[True, False]]}, "whole"),
        ({"pixels": [[0, {}]]}, "whole"),
        ({"pixels": [[10**30]]}, "whole"),
        ({"pixels": [[2**64 - 1]]}, "whole"),
        ({"pixels": [[]]}, "whole"),
        ({"pixels": [[1, 2], [3]]}, "differ in length"),
        ({"pixels": [[1, 2], 3]}, "differ in length or depth"),
        ({"pixels": [[[1], 2]]}, "differ in length or depth"),
        ({"pixels": [1, 2, 3]}, "1 levels"),
        ({"pixels": [[[[[1]]]]]}, "5 levels"),
    ],
)
def test_malformed(body: Any, words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        read(content(body), CARD, LIMITS)


@pytest.mark.parametrize("body", [{"images": [TEXT] * 41}, {"pixels": [[[0] * 5] * 5] * 41}])
def test_too_many(body: Any) -> None:
    with pytest.raises(TooManyImagesError, match="40"):
        read(content(body), CARD, LIMITS)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", UnreadableRequestError),
        (b'{"pixels": [[NaN]]}', UnreadableRequestError),
        (b"[" * 33, JsonTooDeepError),
        (b"[0" + b",0" * 600_000, JsonTooLargeError),
    ],
)
def test_what_cannot_be_parsed(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(content(body), CARD, LIMITS)


@pytest.mark.parametrize(
    "numbers", [[[*[""] * 1_000, "x" * 200_000]], [[*[0] * 40_000, "x" * 20_000]]]
)
def test_strings_among_the_pixels_build_nothing_large(numbers: Any) -> None:
    body = json.dumps({"pixels": numbers}, separators=(",", ":")).encode()
    tracemalloc.start()
    try:
        with pytest.raises(UnusableRequestError, match="whole"):
            read(content(body), CARD, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(body) + 2**20
    finally:
        tracemalloc.stop()
