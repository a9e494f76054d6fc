"""The limits of JSON hold exactly, whatever its strings look like."""

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.api import json_limits
from logitserve_service.api.call import Limits
from logitserve_service.api.json_limits import read_json
from logitserve_service.errors import JsonTooDeepError, JsonTooLargeError, TooManyStringsError

SPECIAL = st.text(st.sampled_from('[]{}",:\\/ aä\n'), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.integers(-9, 9) | SPECIAL,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SPECIAL, inner, max_size=4),
    max_leaves=20,
)


def depth(document: Any) -> int:
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        return 1 + max(map(depth, document), default=0)
    return 0


LIMITS = Limits(images=1, json_values=10**6)


def read_within(depth: int, body: bytes) -> Any:
    """With another limit than the one that the service has."""
    with mock.patch.object(json_limits, "MAX_DEPTH", depth):
        return read_json(body, LIMITS)


def limits(values: int) -> Limits:
    return Limits(images=1, json_values=values)


@given(document=DOCUMENTS, ascii_only=st.booleans())
def test_the_depth_is_that_of_the_document(document: Any, *, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    deepest = depth(document)
    assert read_within(deepest, body) == document
    if deepest:
        with pytest.raises(JsonTooDeepError, match=f"limit of {deepest - 1} levels"):
            read_within(deepest - 1, body)


@given(st.binary(max_size=200) | st.text(st.sampled_from('[]{}",:\\ 1'), max_size=200))
def test_any_bytes_are_counted(body: bytes | str) -> None:
    body = body if isinstance(body, bytes) else body.encode()
    with pytest.raises((JsonTooDeepError, JsonTooLargeError)):
        read_within(1, b"[[" + body)
    with pytest.raises(JsonTooLargeError):
        read_json(b"[[" + body, limits(1))


@pytest.mark.parametrize("unit", ['"a"', "{}", '{"a":0}', r'"\""', '{"b64":""}'])
def test_strings_and_objects_are_limited_by_what_images_need(unit: str) -> None:
    many = Limits(images=10, json_values=10**6)
    fits = f"[{','.join([unit] * (300 if unit != '{}' else 1080))}]".encode()
    assert len(read_json(fits, many)) >= 300
    with pytest.raises(TooManyStringsError, match="limit of 1080 for 10 images"):
        read_json(f"[{','.join([unit] * 1100)}]".encode(), many)


@pytest.mark.parametrize(
    ("document", "values"),
    [([7] * 100, 100), ([[]] * 50, 100), ([{}] * 50, 100), (["ab"] * 50, 100), ({"a": 1}, 2)],
)
def test_what_is_made_is_counted(document: Any, values: int) -> None:
    body = json.dumps(document).encode()
    assert read_json(body, limits(values)) == document
    with pytest.raises(JsonTooLargeError, match=f"limit of {values // 2}"):
        read_json(body, limits(values // 2))
