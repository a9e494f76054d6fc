"""The shapes of the Open Inference Protocol and of TensorFlow Serving's form, for OpenAPI."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from logitserve_service.api.tensors import EXTENSIONS, INPUT_DATATYPES, OUTPUTS, PLATFORM


class _Document(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ServerLive(_Document):
    """Whether the process answers."""

    live: bool


class ServerReady(_Document):
    """Whether every model is there to be asked."""

    ready: bool


class ModelReady(_Document):
    """Whether one model is there to be asked."""

    name: str
    ready: bool


class ServerMetadata(_Document):
    """What the server is, and what it can do beyond the protocol."""

    name: Literal["logitserve"]
    version: str
    extensions: list[str] = Field(examples=[EXTENSIONS])


class TensorMetadata(_Document):
    """A tensor of a model; a size of -1 may be any."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Document):
    """The tensors of a model."""

    name: str
    versions: list[str] = Field(description="all that may be asked, oldest first")
    platform: str = Field(examples=[PLATFORM])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(_Document):
    """An output; its data stand here, or behind the JSON when it was asked for as binary."""

    name: Literal["logits", "probabilities", "argmax"]
    datatype: Literal["FP32", "INT64", "BYTES"]
    shape: list[int]
    data: list[float | str] | None = None
    parameters: dict[str, int] | None = None


class InferResponse(_Document):
    """The outputs that were asked for, in that order."""

    model_name: str
    model_version: str
    id: str | None = Field(None, description="the id of the request, if it had one")
    outputs: list[OutputTensor]


class RepositoryIndexEntry(_Document):
    """A version of a model that lies in the folder of models."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(description="why it does not answer, or not as it now lies in the folder")


class VersionStatus(_Document):
    """How a version of a model is."""

    version: str
    state: Literal["AVAILABLE"]
    status: dict[str, str]


class ModelStatus(_Document):
    """How the versions of a model are, the latest first."""

    model_version_status: list[VersionStatus]


class PredictResponse(_Document):
    """The probabilities of each picture."""

    predictions: list[list[float]] | None = Field(None, description="the answer to `instances`")
    outputs: list[list[float]] | None = Field(None, description="the answer to `inputs`")


_PARAMETERS = {"type": ["object", "null"]}

INFER_REQUEST: Mapping[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {
            "type": ["object", "null"],
            "properties": {"binary_data_output": {"type": ["boolean", "null"]}},
        },
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"const": "image"},
                    "datatype": {"enum": list(INPUT_DATATYPES)},
                    "shape": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 1},
                        "minItems": 1,
                        "maxItems": 4,
                    },
                    "parameters": _PARAMETERS,
                    "data": {
                        "type": ["array", "null"],
                        "description": "UINT8: 0 to 255, flat or nested; BYTES: base64 of files",
                    },
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": _PARAMETERS},
            },
        },
    },
}

INFER_BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": INFER_REQUEST,
                "example": {
                    "id": "42",
                    "inputs": [
                        {
                            "name": "image",
                            "datatype": "UINT8",
                            "shape": [1, 28, 28, 1],
                            "data": [0] * 784,
                        }
                    ],
                    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
                },
            },
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "the JSON, and behind it the data of the tensor; "
                    "Inference-Header-Content-Length says how long the JSON is",
                }
            },
        },
    }
}

INDEX_BODY: Mapping[str, Any] = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}}
        }
    }
}

ORDER_BODY: Mapping[str, Any] = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"parameters": _PARAMETERS}},
            "example": {},
        }
    }
}

_INSTANCES = {
    "type": "array",
    "minItems": 1,
    "description": 'pictures: height × width × channels numbers from 0 to 255, {"b64": "<file>"} '
    'or {"image": either of them}',
}

PREDICT_BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"enum": ["serving_default", "", None]},
                        "instances": _INSTANCES,
                        "inputs": {
                            "anyOf": [
                                {"type": "array", "minItems": 1},
                                {"type": "object", "required": ["image"]},
                            ],
                            "description": 'the same without names, or {"image": pictures}',
                        },
                    },
                    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
                },
                "example": {"instances": [[[[0]] * 28] * 28]},
            }
        },
    }
}
