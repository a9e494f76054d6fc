"""The Open Inference Protocol over gRPC: the same models, keys, limits and records as over HTTP.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version as version_of
from typing import Any, Final

import grpc

from logitserve_service.api import grpc as codec
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api.tensors import EXTENSIONS, PLATFORM, metadata
from logitserve_service.config.settings import Settings
from logitserve_service.errors import DeadlineError, ServiceError
from logitserve_service.execution.result import Result
from logitserve_service.http import problems
from logitserve_service.http.endpoint import Endpoint
from logitserve_service.http.probes import Readiness
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.server import tls
from logitserve_service.server.drain import EXIT_SECONDS, Drain
from logitserve_service.telemetry.exchange import NO_MODEL, Exchange
from logitserve_service.telemetry.request_ids import identified

SERVICE: Final = "inference.GRPCInferenceService"
OPEN_METHODS: Final = frozenset({"ServerLive", "ServerReady"})
"""Methods that need no key."""

CODES: Final[Mapping[HTTPStatus, grpc.StatusCode]] = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}
"""Status of HTTP → code of gRPC. Any other is INVALID_ARGUMENT, also 413: clients retry
RESOURCE_EXHAUSTED, and a request that is too large can never succeed."""

Method = Callable[[Any, Exchange], Awaitable[Any]]


class Servicer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The calls of the protocol. They raise errors; `_recorded` turns them into codes."""

    def __init__(self, endpoint: Endpoint, readiness: Readiness) -> None:
        self._endpoint = endpoint
        self._readiness = readiness
        self.in_flight = 0
        """Calls that are not answered yet."""
        self._handlers = {
            f"/{SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(
                self._recorded(name, method),
                request_deserializer=parse,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, parse, method in (
                ("ServerLive", pb.ServerLiveRequest.FromString, self.server_live),
                ("ServerReady", pb.ServerReadyRequest.FromString, self.server_ready),
                ("ServerMetadata", pb.ServerMetadataRequest.FromString, self.server_metadata),
                ("ModelReady", pb.ModelReadyRequest.FromString, self.model_ready),
                ("ModelMetadata", pb.ModelMetadataRequest.FromString, self.model_metadata),
                ("ModelInfer", bytes, self.model_infer),  # parsed by the codec, within its limits
                ("RepositoryIndex", pb.RepositoryIndexRequest.FromString, self.repository_index),
            )
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call. Without a valid key, it refuses before the message is read."""
        path = handler_call_details.method
        name = path.rpartition("/")[2]
        try:
            if name not in OPEN_METHODS:
                fields = fields_of(handler_call_details.invocation_metadata)
                self._endpoint.admission.authenticator.check_key(fields)
        except ServiceError as error:
            return self._refusing(name, error)
        return self._handlers.get(path)

    def _refusing(self, name: str, error: ServiceError) -> Any:
        async def refuse(_: Any, context: Any) -> None:
            exchange = self._exchange(name, context)
            code, details = self.explain(error, exchange)
            self._endpoint.recorder.record(exchange)
            await context.abort(code, details)

        # The message of a unary call would be read first; of a stream, nothing is read.
        return grpc.stream_unary_rpc_method_handler(refuse)

    async def server_live(self, *_: object) -> pb.ServerLiveResponse:
        """Liveness."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, *_: object) -> pb.ServerReadyResponse:
        """Readiness."""
        return pb.ServerReadyResponse(ready=self._readiness.ready)

    async def server_metadata(self, *_: object) -> pb.ServerMetadataResponse:
        """Name, version and protocol extensions of the server."""
        return pb.ServerMetadataResponse(
            name="logitserve", version=version_of("logitserve"), extensions=EXTENSIONS
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

    async def repository_index(self, request: Any, _: Exchange) -> pb.RepositoryIndexResponse:
        """Every version in the folder of models; with `ready`, only those that are served."""
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[
                entry(name=name, version=state.version, state=state.state, reason=state.reason)
                for name, state in self._endpoint.catalog.index(only_ready=request.ready)
            ]
        )

    async def model_infer(self, data: bytes, exchange: Exchange) -> pb.ModelInferResponse:
        """Run a model. Outputs are raw contents, which Triton's client can read."""
        request = codec.parse(data)
        model = self._find(request.model_name, request.model_version, exchange)
        call = codec.read(request, model.card, self._endpoint.limits)
        done: asyncio.Future[Result | Exception] = asyncio.get_running_loop().create_future()

        def on_result(result: Result | Exception) -> None:
            if not done.cancelled():
                done.set_result(result)

        job = model.batcher.submit(call.inputs, call.options, on_result)
        try:
            result = await done
        finally:
            job.cancel()
        if isinstance(result, Exception):
            raise result
        exchange.timing = result.timing
        return codec.write(call, result)

    def _find(self, name: str, version: str, exchange: Exchange) -> LoadedModel:
        exchange.model = name
        model = self._endpoint.catalog.find(name, version or None)
        exchange.version = model.card.version
        return model

    def _recorded(self, name: str, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """A method with its deadline, the codes of its errors, and a record of each call."""

        async def call(request: Any, context: Any) -> Any:
            exchange = self._exchange(name, context)
            timeout_ms = self._endpoint.admission.timeout_ms
            self.in_flight += 1
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    response = await method(request, exchange)
            except Exception as error:  # noqa: BLE001 - `problems.explain` logs what is unexpected
                late = isinstance(error, TimeoutError)
                reason = DeadlineError(timeout_ms) if late else error
                await context.abort(*self.explain(reason, exchange))
            else:
                exchange.status = HTTPStatus.OK
                return response
            finally:
                self.in_flight -= 1
                self._endpoint.recorder.record(exchange)

        return call

    def _exchange(self, name: str, context: Any) -> Exchange:
        """The record of a call that begins now; until it is answered, its client counts as gone."""
        return Exchange(
            "POST",
            f"/{SERVICE}/{name}".encode(),
            str(context.peer()),
            self._endpoint.request_ids.read(fields_of(context.invocation_metadata())),
            time.perf_counter(),
            route=name,
            model=NO_MODEL,
            status=problems.CLIENT_GONE,
        )

    @staticmethod
    def explain(error: Exception, exchange: Exchange) -> tuple[grpc.StatusCode, str]:
        """Code and details of an error; the exchange gets its status."""
        with identified(exchange.identity):
            exchange.status, details = problems.explain(error)
        return CODES.get(HTTPStatus(exchange.status), grpc.StatusCode.INVALID_ARGUMENT), details


def fields_of(call_metadata: Any) -> dict[bytes, bytes]:
    """Metadata of a call as header fields."""
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in call_metadata or ()
    }


@asynccontextmanager
async def running(
    settings: Settings, endpoint: Endpoint, readiness: Readiness, drain: Drain
) -> AsyncIterator[None]:
    """Serve gRPC until the process accepts no more connections, then answer what has begun."""
    servicer = Servicer(endpoint, readiness)
    server = await _start(settings, servicer)

    async def stop() -> None:
        await drain.closing.wait()
        stopped = asyncio.create_task(server.stop(drain.seconds_left + EXIT_SECONDS / 4))
        await asyncio.wait([stopped], timeout=drain.seconds_left)
        drain.cut_off(servicer.in_flight, "gRPC calls")
        await stopped

    stopping = asyncio.create_task(stop())
    try:
        yield
    finally:
        drain.closing.set()
        await stopping


async def _start(settings: Settings, servicer: Servicer) -> Any:
    options = [
        # Each worker listens on the port; the kernel spreads connections over them.
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((servicer,))
    host = settings.host
    address = f"{f'[{host}]' if ':' in host else host}:{settings.grpc_port}"
    pair = tls.files(settings)
    if pair is None:
        server.add_insecure_port(address)
    else:
        certificate, key = (path.read_bytes() for path in pair)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    return server
