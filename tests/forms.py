"""Every form of an inference request: how images go in, and how answers and errors are read."""

import base64
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import grpc
import httpx
import numpy as np
import numpy.typing as npt

from logitserve_service.api import inference_pb2
from tests.tiny_models import png

pb = inference_pb2

Image = bytes | npt.NDArray[Any]
"""An encoded file, or pixels `[h, w, c]`; those that go as JSON need not be valid."""

Fields = Sequence[tuple[str, str]]
Body = bytes | Iterable[bytes]
Outputs = dict[str, npt.NDArray[Any]]
Probabilities = npt.NDArray[np.float64]

JSON = ("Content-Type", "application/json")
HEADER_LENGTH = "Inference-Header-Content-Length"
SECONDS = 30


class Address(Protocol):
    """Where a server is reached; `process.Server` is one."""

    @property
    def client(self) -> httpx.Client: ...

    @property
    def grpc_address(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, apart from the form that it has."""

    images: Sequence[Image]
    model: str = "digits"
    version: str = ""
    query: str = ""
    fields: Fields = ()
    """Header fields besides those of the form, which they replace."""
    method: str = "POST"
    body: Body | None = None
    """Instead of the encoded images."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; the status of gRPC is the one of `GRPC_STATUS`."""

    status: int
    body: bytes
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    message: Any = None
    """Of gRPC."""
    detail: str = ""
    """Of gRPC; of HTTP the body has it."""


class Encoded(NamedTuple):
    body: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a request down; this class sends it over HTTP."""

    name: str
    encode: Callable[[Sequence[Image]], Encoded]
    read: Callable[[Reply], Probabilities]
    """Probabilities `[images, labels]` of a reply without options."""
    path: str = "/models/{model}/predict"
    by_version: str = "/models/{model}/versions/{version}/predict"
    many: bool = True
    """Carries several images."""
    files: bool = True
    """Carries encoded images, else pixels."""
    json: bool = False
    """The body is JSON and nothing else."""
    options: bool = False
    """Has `top_k`, `coverage` and `calibrated`."""
    statuses: Mapping[int, int] = field(default_factory=dict)
    """The status that this form gives instead of another."""

    def __str__(self) -> str:
        return self.name

    @property
    def over_http(self) -> bool:
        return True

    def status(self, status: int) -> int:
        """What this form makes of a status."""
        return self.statuses.get(status, status)

    def target(self, ask: Ask) -> str:
        """Path and query; without a model, those of the default model."""
        path = (self.by_version if ask.version else self.path).format(
            model=ask.model, version=ask.version
        )
        path = path if ask.model else "/predict"
        return f"{path}?{ask.query}" if ask.query else path

    def fields(self, ask: Ask, encoded: Encoded) -> list[tuple[str, str]]:
        replaced = {name.lower() for name, _ in ask.fields}
        own = [pair for pair in encoded.fields if pair[0].lower() not in replaced]
        return [*own, *ask.fields]

    def send(self, server: Address, ask: Ask) -> Reply:
        encoded = self.encode(ask.images)
        body = encoded.body if ask.body is None else ask.body
        response = server.client.request(
            ask.method, self.target(ask), content=body, headers=self.fields(ask, encoded)
        )
        return Reply(response.status_code, response.content, response.headers)

    def detail(self, reply: Reply) -> str:
        """The text of an error, where clients of this form look for it."""
        document = json.loads(reply.body)
        key = "detail" if self.options else "error"
        assert isinstance(document[key], str), document
        return str(document[key])


def file_of(image: Image) -> bytes:
    return image if isinstance(image, bytes) else png(image)


def text_of(image: Image) -> str:
    return base64.b64encode(file_of(image)).decode()


def pixels_of(images: Sequence[Image]) -> npt.NDArray[Any]:
    return np.stack([image for image in images if not isinstance(image, bytes)])


def as_json(document: Any) -> Encoded:
    return Encoded(json.dumps(document).encode(), [JSON])


# The service's own forms.


def _raw(images: Sequence[Image]) -> Encoded:
    return Encoded(file_of(images[0]), [("Content-Type", "image/png")])


def _multipart(images: Sequence[Image]) -> Encoded:
    files = [("file", (f"{i}.png", file_of(image))) for i, image in enumerate(images)]
    request = httpx.Request("POST", "http://localhost", files=files)
    return Encoded(request.read(), [("Content-Type", request.headers["content-type"])])


def _json_base64(images: Sequence[Image]) -> Encoded:
    return as_json({"images": [text_of(image) for image in images]})


def _json_pixels(images: Sequence[Image]) -> Encoded:
    return as_json({"pixels": pixels_of(images).tolist()})


def predictions(reply: Reply) -> list[dict[str, Any]]:
    """What the service's own forms answer."""
    assert reply.status == 200, reply.body[:1000]
    found: list[dict[str, Any]] = json.loads(reply.body)["predictions"]
    return found


def _own(reply: Reply) -> Probabilities:
    return np.array([list(found["probabilities"].values()) for found in predictions(reply)])


# The Open Inference Protocol.

DTYPES = {"FP32": "<f4", "INT64": "<i8"}


def length_prefixed(elements: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor(images: Sequence[Image], datatype: str, **members: Any) -> dict[str, Any]:
    shape = [len(images)] if datatype == "BYTES" else pixels_of(images).shape
    return {"name": "image", "datatype": datatype, "shape": shape, **members}


def with_binary(images: Sequence[Image], datatype: str, blob: bytes) -> Encoded:
    """The data behind the JSON, and all outputs the same way."""
    size = {"binary_data_size": len(blob)}
    document = {
        "inputs": [tensor(images, datatype, parameters=size)],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(document).encode()
    return Encoded(head + blob, [(HEADER_LENGTH, str(len(head)))])


def _v2_json(images: Sequence[Image]) -> Encoded:
    return as_json({"inputs": [tensor(images, "UINT8", data=pixels_of(images).tolist())]})


def _v2_base64(images: Sequence[Image]) -> Encoded:
    data = [text_of(image) for image in images]
    return as_json({"inputs": [tensor(images, "BYTES", data=data)]})


def _v2_binary(images: Sequence[Image]) -> Encoded:
    return with_binary(images, "UINT8", pixels_of(images).tobytes())


def _v2_bytes(images: Sequence[Image]) -> Encoded:
    return with_binary(images, "BYTES", length_prefixed([file_of(image) for image in images]))


def _v2_raw(images: Sequence[Image]) -> Encoded:
    return Encoded(pixels_of(images).tobytes(), [(HEADER_LENGTH, "0")])


def v2_outputs(reply: Reply | httpx.Response) -> tuple[dict[str, Any], Outputs]:
    """The JSON, and the tensors wherever their data are; BYTES as arrays of str."""
    body = reply.body if isinstance(reply, Reply) else reply.content
    assert getattr(reply, "status", 200) == 200, body[:1000]
    length = int(reply.headers.get(HEADER_LENGTH, len(body)))
    document, rest = json.loads(body[:length]), body[length:]
    outputs: Outputs = {}
    for output in document["outputs"]:
        if "data" in output:
            found = np.array(output["data"], DTYPES.get(output["datatype"]))
        else:
            size = output["parameters"]["binary_data_size"]
            blob, rest = rest[:size], rest[size:]
            found = _unpacked(output["datatype"], blob)
        outputs[output["name"]] = found.reshape(output["shape"])
    assert rest == b""
    return document, outputs


def _unpacked(datatype: str, blob: bytes) -> npt.NDArray[Any]:
    if datatype != "BYTES":
        return np.frombuffer(blob, DTYPES[datatype])
    elements = []
    while blob:
        end = 4 + struct.unpack_from("<I", blob)[0]
        elements.append(blob[4:end].decode())
        blob = blob[end:]
    return np.array(elements)


def _v2(reply: Reply) -> Probabilities:
    return v2_outputs(reply)[1]["probabilities"].astype(np.float64)


# TensorFlow Serving.


def _v1_pixels(images: Sequence[Image]) -> Encoded:
    return as_json({"instances": pixels_of(images).tolist()})


def _v1_base64(images: Sequence[Image]) -> Encoded:
    return as_json({"instances": [{"b64": text_of(image)} for image in images]})


def _v1(reply: Reply) -> Probabilities:
    assert reply.status == 200, reply.body[:1000]
    return np.array(json.loads(reply.body)["predictions"])


# gRPC.

GRPC_STATUS = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class GrpcForm(Form):
    """The same over gRPC; the body is a message without model and version."""

    @property
    def over_http(self) -> bool:
        return False

    def send(self, server: Address, ask: Ask) -> Reply:
        message = pb.ModelInferRequest.FromString(self.encode(ask.images).body)
        message.model_name, message.model_version = ask.model, ask.version
        metadata = [(name.lower(), value) for name, value in ask.fields]
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            try:
                answer = call(message, metadata=metadata, timeout=SECONDS)
            except grpc.RpcError as error:
                return Reply(GRPC_STATUS[error.code()], b"", detail=error.details())
        return Reply(200, b"", message=answer)

    def detail(self, reply: Reply) -> str:
        return reply.detail


def _grpc_pixels(images: Sequence[Image]) -> Encoded:
    message = pb.ModelInferRequest()
    message.inputs.add(name="image", datatype="UINT8", shape=pixels_of(images).shape)
    message.raw_input_contents.append(pixels_of(images).tobytes())
    return Encoded(message.SerializeToString(), ())


def _grpc_bytes(images: Sequence[Image]) -> Encoded:
    message = pb.ModelInferRequest()
    added = message.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    added.contents.bytes_contents.extend(file_of(image) for image in images)
    return Encoded(message.SerializeToString(), ())


def _grpc(reply: Reply) -> Probabilities:
    assert reply.status == 200, reply.detail
    contents = zip(reply.message.outputs, reply.message.raw_output_contents, strict=True)
    (found,) = [
        np.frombuffer(blob, "<f4").reshape(list(output.shape))
        for output, blob in contents
        if output.name == "probabilities"
    ]
    return found.astype(np.float64)


OWN: dict[str, Any] = {"options": True}
V2: dict[str, Any] = {
    "path": "/v2/models/{model}/infer",
    "by_version": "/v2/models/{model}/versions/{version}/infer",
}
V1: dict[str, Any] = {
    "path": "/v1/models/{model}:predict",
    "by_version": "/v1/models/{model}/versions/{version}:predict",
    "statuses": {422: 400},  # as TensorFlow Serving
}
GRPC: dict[str, Any] = {"statuses": dict.fromkeys((400, 413, 415), 422)}

RAW = Form("raw", _raw, _own, many=False, **OWN)
MULTIPART = Form("multipart", _multipart, _own, **OWN)
JSON_BASE64 = Form("json-base64", _json_base64, _own, json=True, **OWN)
JSON_PIXELS = Form("json-pixels", _json_pixels, _own, json=True, files=False, **OWN)
V2_JSON = Form("v2-json", _v2_json, _v2, json=True, files=False, **V2)
V2_BASE64 = Form("v2-base64", _v2_base64, _v2, json=True, **V2)
V2_BINARY = Form("v2-binary", _v2_binary, _v2, files=False, **V2)
V2_BYTES = Form("v2-bytes", _v2_bytes, _v2, **V2)
V2_RAW = Form("v2-raw", _v2_raw, _v2, files=False, **V2)
V1_PIXELS = Form("v1-pixels", _v1_pixels, _v1, json=True, files=False, **V1)
V1_BASE64 = Form("v1-base64", _v1_base64, _v1, json=True, **V1)
GRPC_PIXELS = GrpcForm("grpc-pixels", _grpc_pixels, _grpc, files=False, **GRPC)
GRPC_BYTES = GrpcForm("grpc-bytes", _grpc_bytes, _grpc, **GRPC)

OWN_FORMS = (RAW, MULTIPART, JSON_BASE64, JSON_PIXELS)
V2_FORMS = (V2_JSON, V2_BASE64, V2_BINARY, V2_BYTES, V2_RAW)
V1_FORMS = (V1_PIXELS, V1_BASE64)
HTTP_FORMS = (*OWN_FORMS, *V2_FORMS, *V1_FORMS)
FORMS = (*HTTP_FORMS, GRPC_PIXELS, GRPC_BYTES)
