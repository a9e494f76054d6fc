"""The calls of `GRPCInferenceService`: messages in, messages out, the same use case as under `/v2`.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version as version_of
from typing import Any

import grpc
import numpy as np

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT
from logitserve_service.api.tensors import (
    EXTENSIONS,
    PLATFORM,
    UINT8,
    Pictures,
    RequestedOutput,
    all_outputs,
    answered,
    check_input,
    check_outputs,
    infer,
    metadata,
    unpacked,
)
from logitserve_service.errors import UnusableRequestError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier
from logitserve_service.http import problems
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.readiness import Readiness
from logitserve_service.server.grpc import inference_pb2 as pb
from logitserve_service.telemetry.metrics import NO_MODEL, Metrics

SERVICE = "inference.GRPCInferenceService"

CODES: Mapping[HTTPStatus, grpc.StatusCode] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    # Not RESOURCE_EXHAUSTED, which clients try again: the same request will never do.
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}
"""What `problems.STATUS` says of an error → what gRPC calls it."""


async def _never_gone() -> None:
    """Stand in for the client's departure: gRPC itself cancels the call when its client goes."""
    await asyncio.Event().wait()


class Servicer:
    """Each method is a call of the protocol and raises the errors of the use case."""

    def __init__(
        self,
        catalog: Catalog,
        classifier: Classifier,
        readiness: Readiness,
        *,
        max_pictures: int,
    ) -> None:
        self._catalog = catalog
        self._readiness = readiness
        self.in_flight = 0
        """Calls that are not answered yet."""
        self._classifier = classifier
        self._max_pictures = max_pictures

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the process answers at all."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether every model is loaded and proven."""
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """What the server is, and which extensions of the protocol it has."""
        return pb.ServerMetadataResponse(
            name="logitserve", version=version_of("logitserve"), extensions=EXTENSIONS
        )

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether a model may be asked."""
        self._find(request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """The tensors of a model."""
        card = self._find(request.name, request.version).card
        inputs, outputs = metadata(card)
        described = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=card.name,
            versions=list(self._catalog.models[card.name]),
            platform=PLATFORM,
            inputs=[described(**tensor) for tensor in inputs],
            outputs=[described(**tensor) for tensor in outputs],
        )

    async def repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        """Every version in the folder of models; with `ready`, those that answer."""
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                entry(name=name, version=state.version, state=state.state, reason=state.reason)
                for name, state in self._catalog.index(only_ready=request.ready)
            ]
        )

    async def model_infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Ask a model. The answer has raw contents, which is what Triton's client can read."""
        model = self._find(request.model_name, request.model_version)
        requested = read_outputs(model.card, request)
        pictures = read_input(model.card, request, max_pictures=self._max_pictures)
        predictions, _ = await infer(self._classifier, model, pictures, _never_gone)
        tensors = answered(model.card, predictions, requested)
        described = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=model.card.name,
            model_version=model.card.version,
            id=request.id,
            outputs=[
                described(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                for tensor in tensors
            ],
            raw_output_contents=[tensor.to_bytes() for tensor in tensors],
        )

    def _find(self, name: str, version: str) -> Batcher:
        return self._catalog.find(name, version or None)


def read_input(card: ModelCard, request: pb.ModelInferRequest, *, max_pictures: int) -> Pictures:
    """The pictures of a request.

    Raises:
        UnusableRequestError: another tensor than the model's, or other contents than it says.
        TooManyPicturesError: more than `max_pictures`.
    """
    if len(request.inputs) != 1:
        names = [tensor.name for tensor in request.inputs]
        raise UnusableRequestError(f"the inputs are {names}; the model has one, {INPUT!r}")
    (tensor,) = request.inputs
    count = check_input(
        card, tensor.name, tensor.datatype, list(tensor.shape), max_pictures=max_pictures
    )
    raw = request.raw_input_contents
    if bool(raw) == tensor.HasField("contents") or len(raw) > 1:
        raise UnusableRequestError(
            f"input {INPUT!r} must have either its contents or one element of raw_input_contents"
        )
    if raw:
        return unpacked(tensor.datatype, count, card.input.shape, memoryview(raw[0]))
    if tensor.datatype == UINT8:
        return _from_numbers(tensor.contents.uint_contents, (count, *card.input.shape))
    elements = list(tensor.contents.bytes_contents)
    if len(elements) != count:
        raise UnusableRequestError(
            f"input {INPUT!r}: {len(elements)} bytes_contents, but its shape is [{count}]"
        )
    return elements


def _from_numbers(numbers: Sequence[int], shape: tuple[int, ...]) -> Pictures:
    values = np.array(numbers, np.uint32)
    if values.size != np.prod(shape):
        raise UnusableRequestError(
            f"input {INPUT!r}: {values.size} uint_contents, but its shape is {list(shape)}"
        )
    if values.max() > 255:
        raise UnusableRequestError(f"input {INPUT!r}: {UINT8} goes from 0 (black) to 255")
    return values.astype(np.uint8).reshape(shape)


def read_outputs(card: ModelCard, request: pb.ModelInferRequest) -> list[RequestedOutput]:
    """The outputs that a request asks for: all, where it names none.

    Raises:
        UnusableRequestError: the model has no such output, or not in that form.
    """
    if not request.outputs:
        return all_outputs()
    outputs = []
    for wanted in request.outputs:
        count = None
        if "classification" in wanted.parameters:
            parameter = wanted.parameters["classification"]
            if parameter.WhichOneof("parameter_choice") != "int64_param":
                raise UnusableRequestError(
                    f"output {wanted.name!r}: 'classification' must be an int64_param"
                )
            count = parameter.int64_param
        outputs.append(RequestedOutput(wanted.name, count))
    check_outputs(card, outputs)
    return outputs


def handler(servicer: Servicer, metrics: Metrics) -> grpc.GenericRpcHandler:
    """The calls by their names in the protocol.

    Args:
        servicer: who answers them.
        metrics: where every answer is counted.
    """
    calls: Mapping[str, tuple[type, Callable[[Any], Awaitable[Any]]]] = {
        "ServerLive": (pb.ServerLiveRequest, servicer.server_live),
        "ServerReady": (pb.ServerReadyRequest, servicer.server_ready),
        "ServerMetadata": (pb.ServerMetadataRequest, servicer.server_metadata),
        "ModelReady": (pb.ModelReadyRequest, servicer.model_ready),
        "ModelMetadata": (pb.ModelMetadataRequest, servicer.model_metadata),
        "ModelInfer": (pb.ModelInferRequest, servicer.model_infer),
        "RepositoryIndex": (pb.RepositoryIndexRequest, servicer.repository_index),
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(servicer, name, method, metrics),
                request_deserializer=message.FromString,  # type: ignore[attr-defined]
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (message, method) in calls.items()
        },
    )


def _guarded(
    servicer: Servicer, name: str, method: Callable[[Any], Awaitable[Any]], metrics: Metrics
) -> Callable[[Any, Any], Awaitable[Any]]:
    """The method, with its errors told as gRPC tells them, and its answers counted."""

    async def call(request: Any, context: Any) -> Any:
        begun = time.perf_counter()
        status: int = problems.CLIENT_GONE
        servicer.in_flight += 1
        try:
            answer = await method(request)
            status = HTTPStatus.OK
        # What was not raised on purpose is logged there, and its text stays here.
        except Exception as error:  # noqa: BLE001
            status, detail = problems.explained(error)
            await context.abort(CODES[status], detail)
        else:
            return answer
        finally:
            servicer.in_flight -= 1
            model = getattr(request, "model_name", getattr(request, "name", NO_MODEL))
            metrics.answered(name, model, status, time.perf_counter() - begun)

    return call
