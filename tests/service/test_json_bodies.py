"""The limits of JSON hold exactly, whatever its strings look like."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.api.json_limits import read_json
from logitserve_service.errors import JsonTooDeepError, JsonTooLargeError
from logitserve_service.http.limits import RequestLimits

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


def limits(*, depth: int = 500, values: int = 10**6) -> RequestLimits:
    return RequestLimits(pictures=1, json_depth=depth, json_values=values)


@given(document=DOCUMENTS, ascii_only=st.booleans())
def test_the_depth_is_that_of_the_document(document: Any, *, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    deepest = depth(document)
    assert read_json(body, limits(depth=deepest)) == document
    if deepest:
        with pytest.raises(JsonTooDeepError, match=f"limit of {deepest - 1} levels"):
            read_json(body, limits(depth=deepest - 1))


@given(st.binary(max_size=200) | st.text(st.sampled_from('[]{}",:\\ 1'), max_size=200))
def test_any_bytes_are_counted(body: bytes | str) -> None:
    body = body if isinstance(body, bytes) else body.encode()
    with pytest.raises((JsonTooDeepError, JsonTooLargeError)):
        read_json(b"[[" + body, limits(depth=1))
    with pytest.raises(JsonTooLargeError):
        read_json(b"[[" + body, limits(values=1))


@pytest.mark.parametrize(
    ("document", "values"),
    [([7] * 100, 100), ([[]] * 50, 100), ([{}] * 50, 100), (["ab"] * 50, 100), ({"a": 1}, 2)],
)
def test_what_is_made_is_counted(document: Any, values: int) -> None:
    body = json.dumps(document).encode()
    assert read_json(body, limits(values=values)) == document
    with pytest.raises(JsonTooLargeError, match=f"limit of {values // 2}"):
        read_json(body, limits(values=values // 2))
