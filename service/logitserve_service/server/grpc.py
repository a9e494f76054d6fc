"""The Open Inference Protocol over gRPC, with the models, keys, limits and metrics of HTTP.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

import asyncio
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version as version_of
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from logitserve_service.api import grpc as codec
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api import triton
from logitserve_service.api.grpc import Message
from logitserve_service.api.tensors import EXTENSIONS, PLATFORM, metadata
from logitserve_service.config.proxies import Proxies
from logitserve_service.config.settings import Settings
from logitserve_service.errors import (
    DeadlineError,
    DecodersBusyError,
    MessageTooLargeError,
    TooManyConnectionsError,
    UnreadableRequestError,
)
from logitserve_service.execution.result import Result
from logitserve_service.http import problems
from logitserve_service.http.endpoint import INLINE_BYTES, NO_STORE, Endpoint
from logitserve_service.http.probes import GRPC_PROBES, Readiness
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.server import grpc_tools
from logitserve_service.server.drain import Drain
from logitserve_service.server.grpc_messages import MessageReceiver
from logitserve_service.server.grpc_tools import HEALTH, INFERENCE
from logitserve_service.server.memory import Trimmer
from logitserve_service.server.tls import Certificate
from logitserve_service.telemetry.exchange import NO_MODEL, Exchange
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.request_ids import identified

CODES: Final[Mapping[HTTPStatus, grpc.StatusCode]] = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}
"""HTTP status → gRPC code. Any other is INVALID_ARGUMENT, also 413: clients retry
RESOURCE_EXHAUSTED, but a request that is too large can never succeed."""


Method = Callable[[Any, Exchange], Awaitable[Any]]
Parse = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """Dependencies of the gRPC methods."""

    settings: Settings
    endpoint: Endpoint
    readiness: Readiness
    drain: Drain
    trimmer: Trimmer
    metrics: Metrics
    certificate: Certificate


class Servicer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The methods of the protocol. They raise errors; `_recorded` maps them to codes."""

    def __init__(self, parts: Parts) -> None:
        settings, endpoint = parts.settings, parts.endpoint
        self._endpoint = endpoint
        self._readiness = parts.readiness
        self._messages = MessageReceiver(settings, endpoint.admission.budget.max_total_bytes)
        self._max_calls = settings.max_connections
        self._proxies = Proxies(settings.forwarded_allow_ips)
        self._trimmer = parts.trimmer
        self._metrics = parts.metrics
        self._health = grpc_tools.Health(endpoint.catalog, parts.readiness, parts.drain)
        self.in_flight = 0
        """Number of unanswered calls."""
        self._handlers = {
            f"/{INFERENCE}/{name}": self._handler(f"/{INFERENCE}/{name}", parse, method)
            for name, parse, method in (
                ("ServerLive", pb.ServerLiveRequest.FromString, self.server_live),
                ("ServerReady", pb.ServerReadyRequest.FromString, self.server_ready),
                ("ServerMetadata", pb.ServerMetadataRequest.FromString, self.server_metadata),
                ("ModelReady", pb.ModelReadyRequest.FromString, self.model_ready),
                ("ModelMetadata", pb.ModelMetadataRequest.FromString, self.model_metadata),
                ("ModelInfer", codec.parse, self.model_infer),
                ("ModelConfig", pb.ModelConfigRequest.FromString, self.model_config),
                ("ModelStatistics", pb.ModelStatisticsRequest.FromString, self.model_statistics),
                ("RepositoryIndex", pb.RepositoryIndexRequest.FromString, self.repository_index),
            )
        }
        check, watch = f"/{HEALTH}/Check", f"/{HEALTH}/Watch"
        self._handlers[check] = self._handler(check, grpc_tools.parse_check, self.health)
        self._handlers[watch] = self._stream(watch, self._watch)
        for service in grpc_tools.REFLECTION:
            path = f"/{service}/ServerReflectionInfo"
            self._handlers[path] = self._stream(path, self._reflect)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call; None if there is no such method."""
        return self._handlers.get(handler_call_details.method)

    async def server_live(self, *_: object) -> pb.ServerLiveResponse:
        """Liveness."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, *_: object) -> pb.ServerReadyResponse:
        """Readiness."""
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    async def health(self, request: Any, _: Exchange) -> Any:
        """Return the health of the process or of a model."""
        return self._health.check(request.service)

    async def server_metadata(self, *_: object) -> pb.ServerMetadataResponse:
        """Name, version and protocol extensions of the server."""
        return pb.ServerMetadataResponse(
            name="logitserve",
            version=version_of("logitserve"),
            extensions=(*EXTENSIONS, *triton.EXTENSIONS),
        )

    async def model_ready(self, request: Any, exchange: Exchange) -> pb.ModelReadyResponse:
        """Whether a model can be used."""
        self._find(request.name, request.version, exchange)
        return pb.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: Any, exchange: Exchange) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        card = self._find(request.name, request.version, exchange).card
        inputs, outputs = metadata(card)
        described = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=card.name,
            versions=list(self._endpoint.catalog.models[card.name]),
            platform=PLATFORM,
            inputs=[described(**tensor) for tensor in inputs],
            outputs=[described(**tensor) for tensor in outputs],
        )

    async def model_config(self, request: Any, exchange: Exchange) -> pb.ModelConfigResponse:
        """Configuration of a model (Triton)."""
        card = self._find(request.name, request.version, exchange).card
        config = triton.configuration(card, self._endpoint.limits.images)
        return json_format.ParseDict({"config": config}, pb.ModelConfigResponse())

    async def model_statistics(self, request: Any, exchange: Exchange) -> Any:
        """Statistics of a model, or of all (Triton)."""
        names = [request.name] if request.name else self._endpoint.catalog.live
        cards = [self._find(name, request.version, exchange).card for name in names]
        found = await asyncio.to_thread(triton.statistics, self._metrics, cards)
        return json_format.ParseDict(found, pb.ModelStatisticsResponse())

    async def repository_index(self, request: Any, _: Exchange) -> pb.RepositoryIndexResponse:
        """List every version in the folder of models; with `ready`, only served versions."""
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                entry(name=name, version=state.version, state=state.state, reason=state.reason)
                for name, state in self._endpoint.catalog.index(only_ready=request.ready)
            ]
        )

    async def model_infer(self, message: Message, exchange: Exchange) -> pb.ModelInferResponse:
        """Run a model. Outputs are raw contents, as Triton's client requires."""
        request = message.request
        model = self._find(request.model_name, request.model_version, exchange)
        if self._endpoint.catalog.canaries and not request.model_version:
            identity = exchange.identity[0]
            model = self._endpoint.catalog.drawn(model, message.fields, identity)
            exchange.version = model.card.version
        arguments = message, model.card, self._endpoint.limits
        if message.size <= INLINE_BYTES:
            call = codec.read(*arguments)
        else:
            loop = asyncio.get_running_loop()
            call = await loop.run_in_executor(self._endpoint.parser, codec.read, *arguments)
        done: asyncio.Future[Result | Exception] = asyncio.get_running_loop().create_future()

        def on_result(result: Result | Exception) -> None:
            if not done.cancelled():
                done.set_result(result)

        job = model.batcher.submit(call.inputs, call.options, on_result)
        job.is_private = exchange.is_private
        try:
            result = await done
        except asyncio.CancelledError:
            if job.undecoded:
                waited = time.perf_counter() - exchange.begun
                raise DecodersBusyError(round(waited * 1000)) from None
            raise
        finally:
            job.cancel()
        if isinstance(result, Exception):
            raise result
        begun = time.perf_counter()
        response = codec.write(call, result)
        exchange.timing = result.timing
        exchange.timing.output += time.perf_counter() - begun
        return response

    def _find(self, name: str, version: str, exchange: Exchange) -> LoadedModel:
        exchange.model = name
        model = self._endpoint.catalog.find(name, version or None)
        exchange.version = model.card.version
        return model

    async def _watch(self, context: Any) -> AsyncIterator[Any]:
        message = await self._messages.receive(context)
        async for status in self._health.watch(_parsed(grpc_tools.parse_check, message).service):
            yield status

    async def _reflect(self, context: Any) -> AsyncIterator[Any]:
        fields = fields_of(context.invocation_metadata())
        self._endpoint.admission.authenticator.check_key(fields)

        async def questions() -> AsyncIterator[Any]:
            while (message := await self._messages.next(context)) is not None:
                yield _parsed(grpc_tools.parse_question, message)

        async for answer in grpc_tools.reflect(questions()):
            yield answer

    def _stream(self, path: str, method: Callable[[Any], AsyncIterator[Any]]) -> Any:
        """Make the handler of a streaming method; the call is recorded when it ends."""

        async def call(_: Any, context: Any) -> None:
            with self._recorded(path, context) as exchange:
                if self.in_flight > self._max_calls:
                    raise TooManyConnectionsError(self._max_calls)
                async for response in method(context):
                    await context.write(response.SerializeToString())
                exchange.status = HTTPStatus.OK

        return grpc.stream_stream_rpc_method_handler(call)

    def _handler(self, path: str, parse: Parse, method: Method) -> Any:
        """Make the handler of a unary method, with its checks, error codes and records.

        gRPC receives the message of a unary call before it calls the handler. So all methods are
        registered as streams, which are the same to a client.
        """

        async def call(_: Any, context: Any) -> Any:
            response = None
            with self._recorded(path, context) as exchange:
                response = await self._answer(parse, method, context, exchange)
                exchange.status = HTTPStatus.OK
            return response

        return grpc.stream_unary_rpc_method_handler(
            call, response_serializer=lambda response: response.SerializeToString()
        )

    @contextmanager
    def _recorded(self, path: str, context: Any) -> Iterator[Exchange]:
        """Set the code for an error in this block, and record the call."""
        exchange = self._exchange(path, context)
        self._endpoint.recorder.begun()
        self.in_flight += 1
        try:
            yield exchange
        except Exception as error:  # noqa: BLE001 - `problems.explain` logs what is unexpected
            code, details = self.explain(error, exchange)
            context.set_code(code)
            context.set_details(details)
            self._trimmer.soon()
        finally:
            self.in_flight -= 1
            self._endpoint.recorder.record(exchange)

    async def _answer(self, parse: Parse, method: Method, context: Any, exchange: Exchange) -> Any:
        admission = self._endpoint.admission
        fields = fields_of(context.invocation_metadata())
        if exchange.route not in GRPC_PROBES:
            admission.authenticator.check_key(fields)
            if self.in_flight > self._max_calls:
                raise TooManyConnectionsError(self._max_calls)
        timeout_ms = admission.time_of(fields, admission.timeout_ms)
        size = 0
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                message = await self._messages.receive(context)
                size = len(message)
                admission.budget.reserve(size, size)
                request = _parsed(parse, message)
                if isinstance(request, Message):
                    request = replace(request, fields=fields)
                return await method(request, exchange)
        except TimeoutError:
            raise DeadlineError(timeout_ms) from None
        finally:
            admission.budget.release(size)

    def _exchange(self, path: str, context: Any) -> Exchange:
        """Return the record of a new call; until it is answered, its status is `CLIENT_GONE`."""
        fields = fields_of(context.invocation_metadata())
        client, _ = self._proxies.caller(_host(context.peer()), "", fields)
        return Exchange(
            "POST",
            path.encode(),
            client,
            self._endpoint.request_ids.read(fields),
            time.perf_counter(),
            route=path.rpartition("/")[2],
            model=NO_MODEL,
            status=problems.CLIENT_GONE,
            is_private=NO_STORE in fields,
        )

    @staticmethod
    def explain(error: Exception, exchange: Exchange) -> tuple[grpc.StatusCode, str]:
        """Return code and details of an error, and set the status of the exchange."""
        with identified(exchange.identity):
            exchange.status, details = problems.explain(error)
        exchange.problem = type(error).__name__, details
        return CODES.get(HTTPStatus(exchange.status), grpc.StatusCode.INVALID_ARGUMENT), details


def _parsed(parse: Parse, message: bytes) -> Any:
    if parse is not codec.parse and len(message) > codec.MAX_BYTES:
        raise MessageTooLargeError(codec.MAX_FIELDS, codec.MAX_BYTES)
    try:
        return parse(message)
    except DecodeError as error:
        raise UnreadableRequestError("the message cannot be parsed") from error


def _host(peer: str) -> str | None:
    """Return the address of a gRPC peer: `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    family, _, address = urllib.parse.unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return host if family in {"ipv4", "ipv6"} else None


def fields_of(call_metadata: Any) -> dict[bytes, bytes]:
    """Return call metadata as header fields."""
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in call_metadata or ()
    }
