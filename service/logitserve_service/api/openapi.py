"""The OpenAPI document of the forms: bodies, responses, parameters, problems."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from logitserve.inference import rollout
from logitserve.inference.explaining import UNITS, Method
from logitserve_service.api import predict
from logitserve_service.api.options import PredictQuery
from logitserve_service.api.protocol_schemas import (
    InferRequest,
    InferResponse,
    V1Predictions,
    V1Request,
)
from logitserve_service.api.schemas import Images, Pixels, Predictions, Problem
from logitserve_service.api.v2 import HEADER_LENGTH
from logitserve_service.monitoring.feedback import MAX_LABELS, TrueLabel

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"
_REQUESTS = (Images, Pixels, InferRequest, V1Request, TrueLabel)
_RESPONSES = (Problem, Predictions, InferResponse, V1Predictions)

DETAILS: Final[Mapping[int, str]] = {
    400: "the body is not JSON: unexpected end of data: line 1 column 1 (char 0)",
    401: "a key is missing; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
    403: "an admin key is required; this key has no admin rights",
    404: "no model 'digit'; there is digits, zero",
    408: "the body of the request did not arrive within 30 seconds",
    409: "a live baseline needs 2000 images, and only 1400 were counted since the start",
    413: "the body is larger than the limit of 33554432 bytes (setting LOGITSERVE_MAX_BODY_BYTES)",
    415: "content type 'text/plain' is not supported; send one of image/png, …",
    422: "unknown query parameter 'topk'; did you mean 'top_k'? "
    "known: allow_empty, calibrated, coverage, top_k",
    429: "the queue is full: its limit is 2048 images; try again later",
    503: "the models are being loaded; try again later",
    504: "the request could not be answered within its 1000 ms",
}
"""Status → `detail` of the example problem document."""
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def components() -> Json:
    """Return the schemas that this module refers to by name, for `components.schemas`."""
    _, schema = models_json_schema(
        [
            *((model, "validation") for model in _REQUESTS),
            *((model, "serialization") for model in _RESPONSES),
        ],
        ref_template=_REF,
    )
    found: Json = schema["$defs"]
    return found


def problems(*statuses: int) -> dict[int | str, Json]:
    """Return the error responses of a route, each with an example."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> Json:
    title, detail = HTTPStatus(status).phrase, DETAILS[status]
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    content = {"schema": _ref(Problem), "example": {**example, "error": detail}}
    headers = {"headers": _RETRY_AFTER} if status in (429, 503) else {}
    return {"description": title, "content": {"application/problem+json": content}, **headers}


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}


def _body(content: Json, *, required: bool = True) -> Json:
    return {"requestBody": {"required": required, "content": content}}


def _response(model: type[BaseModel], example: Json, **content: Any) -> dict[int | str, Json]:
    json = {"schema": _ref(model), "example": example}
    return {200: {"description": "OK", "content": {"application/json": json, **content}}}


_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": [predict.FORM_FIELD],
    "additionalProperties": False,
    "properties": {predict.FORM_FIELD: {"type": "array", "items": _FILE, "minItems": 1}},
}
_ONE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAwAAAAQAQAAAAAKGqOqAAAAKUlEQVR42l3CsQ0AIAzAsDTif/ElrJ0qWMqO5egUvLgR"
    "4pTwHWsK0Sk8/Q8JSc09LaAAAAAASUVORK5CYII="
)  # an image of a one, 12×16 pixels, as an example

PREDICT_PARAMETERS: Final = [
    {"name": name, "in": "query", "schema": schema}
    for name, schema in PredictQuery.model_json_schema()["properties"].items()
]

_PREDICT_JSON = {
    "schema": {"oneOf": [_ref(Images), _ref(Pixels)]},
    "examples": {
        "images": {"value": {"images": [_ONE]}},
        "pixels": {"value": {"pixels": [[0, 255, 0, 255, 0]] * 5}},
    },
}
PREDICT_BODY: Final = _body(
    {
        **{media_type: {"schema": _FILE} for media_type in predict.FILE_TYPES},
        "multipart/form-data": {"schema": _FORM},
        "application/json": _PREDICT_JSON,
    }
)
_PREDICTION = {"argmax": 1, "label": "zero", "probability": 0.998}
_PREDICTION |= {"probabilities": {"other": 0.002, "zero": 0.998}}
PREDICT_RESPONSE: Final = _response(
    Predictions, {"model": "zero", "version": "1", "predictions": [_PREDICTION]}
)

_EXPLAINED: Json = {"model": "zero", "version": "1", "prediction": _PREDICTION, "label": "zero"}
_EXPLAINED |= {"against": None, "method": "occlusion", "map": [[0.1, 2.5], [-0.3, 1.2]]}
_EXPLAINED |= {"unit": UNITS[Method.OCCLUSION], "bias": None, "fill": "paper", "passes": 144}
_EXPLAINED |= {"of": 144, "complete": True, "drop": {"top": 9.1, "random": 0.7}}
_EXPLAIN_CONTENT = {"application/json": {"example": _EXPLAINED}, "image/png": {"schema": _FILE}}
EXPLAIN_RESPONSE: Final[dict[int | str, Json]] = {
    200: {"description": "OK", "content": _EXPLAIN_CONTENT}
}

_BINARY = {
    "description": "the JSON, followed by the tensor data; "
    f"{HEADER_LENGTH} is the length of the JSON"
}
_BINARY_JSON = {"application/octet-stream": {"schema": _FILE | _BINARY}}
_INPUT = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": [0] * 784}
_REQUESTED = {"name": "probabilities", "parameters": {"classification": 2}}
_OUTPUT = {"name": "probabilities", "datatype": "BYTES", "shape": [1, 2]}
_OUTPUT |= {"data": ["0.97:1:1", "0.02:7:7"]}
_INFER = {"id": "42", "inputs": [_INPUT], "outputs": [_REQUESTED]}
INFER_BODY: Final = _body(
    {"application/json": {"schema": _ref(InferRequest), "example": _INFER}, **_BINARY_JSON}
)
INFER_RESPONSE: Final = _response(
    InferResponse,
    {"model_name": "digits", "model_version": "1", "id": "42", "outputs": [_OUTPUT]},
    **_BINARY_JSON,
)

_V1_EXAMPLES = {
    "files": {"value": {"instances": [{"b64": _ONE}]}},
    "pixels": {"value": {"instances": [[[[0]] * 28] * 28]}},
}
V1_PREDICT_BODY: Final = _body(
    {"application/json": {"schema": _ref(V1Request), "examples": _V1_EXAMPLES}}
)
V1_PREDICT_RESPONSE: Final = _response(V1Predictions, {"predictions": [[0.002, 0.998]]})


def _optional(**properties: Json) -> Json:
    schema = {"type": "object", "properties": properties}
    return _body({"application/json": {"schema": schema, "example": {}}}, required=False)


_ID = "agH8wQb3xT4AAAAqD1pYzAAHR5g8AJ0gT0y1m2Wc3kYV"
_LABEL = {"id": _ID, "label": "7", "source": "Ada"}
_LABELS = {"type": "array", "items": _ref(TrueLabel), "minItems": 1, "maxItems": MAX_LABELS}
FEEDBACK_BODY: Final = _body(
    {
        "application/json": {
            "schema": {"oneOf": [_ref(TrueLabel), _LABELS]},
            "examples": {
                "one": {"value": _LABEL},
                "several": {"value": [_LABEL, {"id": _ID, "labels": ["car"]}]},
            },
        },
        "application/x-ndjson": {"schema": {"type": "string", "description": "one label per line"}},
    }
)
INDEX_BODY: Final = _optional(ready={"type": ["boolean", "null"]})
BASELINE_BODY: Final = _optional(reference={"enum": ["live", "card"], "default": "live"})
ROLLOUT_BODY: Final = _optional(
    live={"type": ["string", "null"], "description": "null: the newest version"},
    canary={"anyOf": [rollout.Canary.model_json_schema(), {"type": "null"}]},
    shadow={"anyOf": [rollout.Shadow.model_json_schema(), {"type": "null"}]},
)
ORDER_BODY: Final = _optional(parameters={"type": ["object", "null"]})
"""Request body to load and unload a model."""
