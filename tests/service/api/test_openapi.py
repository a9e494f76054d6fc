"""What the OpenAPI document says of a form is what its codec reads and writes."""

import base64
import json
from typing import Any

import jsonschema
import pytest

from logitserve_service.api import openapi, predict, v1, v2
from logitserve_service.api.call import Call
from logitserve_service.api.schemas import ModelDetail
from tests.service.api.codec_helpers import CARD, LIMITS, content

COMPONENTS = {"components": {"schemas": openapi.components()}}
BODIES = {
    "predict": (openapi.PREDICT_BODY, predict.read_json_images),
    "v2": (openapi.INFER_BODY, v2.read),
    "v1": (openapi.V1_PREDICT_BODY, v1.read),
}
RESPONSES = (openapi.PREDICT_RESPONSE, openapi.INFER_RESPONSE, openapi.V1_PREDICT_RESPONSE)


def check(schema: Any, value: Any) -> None:
    jsonschema.Draft202012Validator({**COMPONENTS, **schema}).validate(value)


def examples(media: Any) -> list[Any]:
    if "example" in media:
        return [media["example"]]
    return [example["value"] for example in media["examples"].values()]


@pytest.mark.parametrize("form", BODIES)
def test_every_example_of_a_body_is_valid_and_is_read(form: str) -> None:
    body, read = BODIES[form]
    media = body["requestBody"]["content"]["application/json"]
    for example in examples(media):
        check(media["schema"], example)
        call: Call = read(content(example), CARD, LIMITS)
        assert len(call.inputs) == 1


@pytest.mark.parametrize("response", RESPONSES)
def test_every_example_of_a_response_is_valid(response: Any) -> None:
    media = response[200]["content"]["application/json"]
    check(media["schema"], media["example"])


def test_problems_refer_to_one_component_and_have_an_example_each() -> None:
    described = openapi.problems(*openapi.DETAILS)
    assert list(described) == list(openapi.DETAILS)
    for status, problem in described.items():
        media = problem["content"]["application/problem+json"]
        assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
        check(media["schema"], media["example"])
        assert media["example"]["status"] == status
        assert ("headers" in problem) == (status in (429, 503))


def test_the_document_is_json_and_every_reference_is_there() -> None:
    parts = [COMPONENTS, RESPONSES, openapi.problems(422), openapi.PREDICT_PARAMETERS]
    text = json.dumps([*parts, openapi.INDEX_BODY, *(body for body, _ in BODIES.values())])
    for part in text.split("#/components/schemas/")[1:]:
        assert part.partition('"')[0] in COMPONENTS["components"]["schemas"]


def test_a_form_has_files_to_choose() -> None:
    schema = openapi.PREDICT_BODY["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["file"]["items"] == {"type": "string", "format": "binary"}


def test_the_card_is_served_without_its_golden_images() -> None:
    detail = ModelDetail.served(
        CARD, name="tiny", default=True, version="1", versions=["1"], report=None, folder=[]
    )
    card = json.loads(detail.model_dump_json())["card"]
    assert card["labels"] == list(CARD.labels)
    assert "goldens" not in card
    assert base64.b64encode(CARD.goldens[0].image).decode() not in detail.model_dump_json()
