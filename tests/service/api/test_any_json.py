"""Whatever JSON a form gets, it is read or refused on purpose; no other exception leaves it."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.errors import InferenceError
from logitserve_service.api import predict, v1, v2
from logitserve_service.errors import ServiceError
from tests.service.api.codec_helpers import LIMITS, SMALL_CARD, content

MEMBERS = (
    "images pixels id inputs outputs parameters name datatype shape data instances signature_name "
    "image b64 binary_data_size binary_data classification binary_data_output ouputs"
)
NAMES = st.sampled_from(MEMBERS.split())
VALUES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**65)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.sampled_from(["image", "UINT8", "BYTES", "logits", "argmax", "AAAA", "data:;base64,AAAA"])
    | st.just([2, 3, 1])
)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
GOOD: dict[Any, dict[str, Any]] = {
    predict.read_json_images: {"images": ["AAAA"]},
    v1.read: {"instances": [[[[1]] * 3] * 2]},
    v2.read: {
        "id": "7",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 3, 1], "data": [0] * 6}],
        "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
    },
}


def check(read_form: Any, document: Any) -> None:
    with contextlib.suppress(ServiceError, InferenceError):
        assert len(read_form(content(document), SMALL_CARD, LIMITS).inputs) > 0


@pytest.mark.parametrize("read_form", GOOD)
@given(document=DOCUMENTS)
def test_any_document(read_form: Any, document: Any) -> None:
    check(read_form, json.dumps(document).encode())


@pytest.mark.parametrize("read_form", GOOD)
@given(data=st.data())
def test_a_good_document_with_one_thing_changed(read_form: Any, data: st.DataObject) -> None:
    document = json.loads(json.dumps(GOOD[read_form]))
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(DOCUMENTS)
    check(read_form, json.dumps(document).encode())
