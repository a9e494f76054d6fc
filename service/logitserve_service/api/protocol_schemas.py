"""Schemas of the Open Inference Protocol and of TensorFlow Serving's REST API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from logitserve_service.api.tensors import EXTENSIONS, PLATFORM


class _Document(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), extra="forbid")


class ServerLive(_Document):
    """Whether the process responds."""

    live: bool


class ServerReady(_Document):
    """Whether every model can be used."""

    ready: bool


class ModelReady(_Document):
    """Whether one model can be used."""

    name: str
    ready: bool


class ServerMetadata(_Document):
    """Name and version of the server, and the protocol extensions that it supports."""

    name: Literal["logitserve"]
    version: str
    extensions: list[str] = Field(examples=[EXTENSIONS])


class TensorMetadata(_Document):
    """A tensor of a model; -1 stands for a variable size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Document):
    """The tensors of a model."""

    name: str
    versions: list[str] = Field(description="all served versions, oldest first")
    platform: str = Field(examples=[PLATFORM])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class RepositoryIndexEntry(_Document):
    """A version of a model in the folder of models."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(
        description="why the version, or the current content of its file, is not served"
    )


class InferParameters(BaseModel):
    """The parameters that this server reads; others are ignored."""

    binary_data_output: bool | None = Field(
        None, description="for a request: send all outputs as binary data"
    )
    binary_data_size: int | None = Field(
        None, description="for an input: number of its bytes after the JSON"
    )
    binary_data: bool | None = Field(None, description="for an output: send it as binary data")
    classification: PositiveInt | None = Field(
        None, description='for an output: number of top classes to return as "value:index:label"'
    )


class InferInput(_Document):
    """The input tensor."""

    name: Literal["image"]
    datatype: Literal["UINT8", "BYTES"]
    shape: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)]
    parameters: InferParameters | None = None
    data: list[Any] | None = Field(
        None, description="UINT8: 0 to 255, flat or nested; BYTES: base64 of files"
    )


class InferOutput(_Document):
    """A requested output."""

    name: Literal["logits", "probabilities", "argmax"]
    parameters: InferParameters | None = None


class InferRequest(_Document):
    """An inference request; without `outputs`, all outputs are returned."""

    id: str | None = None
    model_name: str | None = Field(None, description="ignored; the path names the model")
    model_version: str | None = Field(None, description="ignored; the path names the version")
    parameters: InferParameters | None = None
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = None


class OutputTensor(_Document):
    """An output; its data are in `data`, or after the JSON if requested as binary."""

    name: Literal["logits", "probabilities", "argmax"]
    datatype: Literal["FP32", "INT64", "BYTES"]
    shape: list[int]
    data: list[float | str] | None = None
    parameters: dict[str, int] | None = None


class InferResponse(_Document):
    """The requested outputs, in the order of the request."""

    model_name: str
    model_version: str
    id: str | None = Field(None, description="the id of the request, if it had one")
    parameters: dict[str, str] | None = Field(
        None, description="with receipts: `prediction_id`, the prediction ids separated by commas"
    )
    outputs: list[OutputTensor]


class VersionStatus(_Document):
    """The state of a version of a model."""

    version: str
    state: Literal["AVAILABLE"]
    status: dict[str, str]


class ModelStatus(_Document):
    """The states of the versions of a model, latest first; `name` and `ready` are KServe's."""

    name: str
    ready: bool
    model_version_status: list[VersionStatus]


class V1Models(_Document):
    """The names of the served models (KServe's V1 protocol)."""

    models: list[str]


class V1Request(_Document):
    """Images in `instances` (row format) or in `inputs` (column format)."""

    signature_name: Literal["serving_default", ""] | None = None
    instances: list[Any] | None = Field(
        None,
        min_length=1,
        description='each is height × width × channels numbers from 0 to 255, {"b64": '
        '"<file>"}, or {"image": one of these}',
    )
    inputs: list[Any] | dict[Literal["image"], Any] | None = Field(
        None, description='images as in `instances` but without names, or {"image": images}'
    )


class V1Predictions(_Document):
    """The probabilities of each image."""

    predictions: list[list[float]] | None = Field(None, description="in response to `instances`")
    outputs: list[list[float]] | None = Field(None, description="in response to `inputs`")
