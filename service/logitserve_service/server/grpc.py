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
from google.protobuf.message import DecodeError

from logitserve_service.api import grpc as codec
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api.grpc import Message
from logitserve_service.api.tensors import EXTENSIONS, PLATFORM, metadata
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
from logitserve_service.http.endpoint import INLINE_BYTES, Endpoint
from logitserve_service.http.probes import Readiness
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.server import memory, tls
from logitserve_service.server.arrivals import Arrivals
from logitserve_service.server.drain import EXIT_SECONDS, Drain
from logitserve_service.server.memory import Trimmer
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
Parse = Callable[[bytes], Any]


class Servicer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The calls of the protocol. They raise errors; `_handler` turns them into codes."""

    def __init__(
        self, settings: Settings, endpoint: Endpoint, readiness: Readiness, trimmer: Trimmer
    ) -> None:
        self._endpoint = endpoint
        self._readiness = readiness
        self._arrivals = Arrivals(settings, endpoint.admission.budget.max_total_bytes)
        self._max_calls = settings.max_connections
        self.in_flight = 0
        """Calls that are not answered yet."""
        self._trimmer = trimmer
        self._handlers = {
            f"/{SERVICE}/{name}": self._handler(name, parse, method)
            for name, parse, method in (
                ("ServerLive", pb.ServerLiveRequest.FromString, self.server_live),
                ("ServerReady", pb.ServerReadyRequest.FromString, self.server_ready),
                ("ServerMetadata", pb.ServerMetadataRequest.FromString, self.server_metadata),
                ("ModelReady", pb.ModelReadyRequest.FromString, self.model_ready),
                ("ModelMetadata", pb.ModelMetadataRequest.FromString, self.model_metadata),
                ("ModelInfer", codec.parse, self.model_infer),
                ("RepositoryIndex", pb.RepositoryIndexRequest.FromString, self.repository_index),
            )
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; None if there is no such method."""
        return self._handlers.get(handler_call_details.method)

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

    async def model_infer(self, message: Message, exchange: Exchange) -> pb.ModelInferResponse:
        """Run a model. Outputs are raw contents, which Triton's client can read."""
        request = message.request
        model = self._find(request.model_name, request.model_version, exchange)
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
        exchange.timing = result.timing
        return codec.write(call, result)

    def _find(self, name: str, version: str, exchange: Exchange) -> LoadedModel:
        exchange.model = name
        model = self._endpoint.catalog.find(name, version or None)
        exchange.version = model.card.version
        return model

    def _handler(self, name: str, parse: Parse, method: Method) -> Any:
        """A method with its checks, the codes of its errors, and a record of each call.

        Of a call with one message, gRPC would receive that message before anybody is asked. So all
        are registered as streams, which look the same to a client.
        """

        async def call(_: Any, context: Any) -> Any:
            exchange = self._exchange(name, context)
            self._endpoint.recorder.begun()
            self.in_flight += 1
            try:
                response = await self._answer(name, parse, method, context, exchange)
            except Exception as error:  # noqa: BLE001 - `problems.explain` logs what is unexpected
                code, details = self.explain(error, exchange)
                context.set_code(code)
                context.set_details(details)
                self._trimmer.soon()
                return None
            else:
                exchange.status = HTTPStatus.OK
                return response
            finally:
                self.in_flight -= 1
                self._endpoint.recorder.record(exchange)

        return grpc.stream_unary_rpc_method_handler(
            call, response_serializer=lambda response: response.SerializeToString()
        )

    async def _answer(
        self, name: str, parse: Parse, method: Method, context: Any, exchange: Exchange
    ) -> Any:
        admission = self._endpoint.admission
        fields = fields_of(context.invocation_metadata())
        if name not in OPEN_METHODS:
            admission.authenticator.check_key(fields)
            if self.in_flight > self._max_calls:
                raise TooManyConnectionsError(self._max_calls)
        timeout_ms = admission.time_of(fields, admission.timeout_ms)
        size = 0
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                message = await self._arrivals.receive(context)
                size = len(message)
                admission.budget.reserve(size, size)
                return await method(_parsed(parse, message), exchange)
        except TimeoutError:
            raise DeadlineError(timeout_ms) from None
        finally:
            admission.budget.release(size)

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
        exchange.problem = type(error).__name__, details
        return CODES.get(HTTPStatus(exchange.status), grpc.StatusCode.INVALID_ARGUMENT), details


def _parsed(parse: Parse, message: bytes) -> Any:
    if parse is not codec.parse and len(message) > codec.MAX_BYTES:
        raise MessageTooLargeError(codec.MAX_FIELDS, codec.MAX_BYTES)
    try:
        return parse(message)
    except DecodeError as error:
        raise UnreadableRequestError("the message cannot be parsed") from error


def fields_of(call_metadata: Any) -> dict[bytes, bytes]:
    """Metadata of a call as header fields."""
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in call_metadata or ()
    }


@asynccontextmanager
async def running(
    settings: Settings,
    endpoint: Endpoint,
    readiness: Readiness,
    drain: Drain,
    trimmer: Trimmer,
) -> AsyncIterator[None]:
    """Serve gRPC until the process accepts no more connections, then answer what has begun."""
    servicer = Servicer(settings, endpoint, readiness, trimmer)
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


def max_message_bytes(settings: Settings) -> int:
    """What gRPC receives at most: no more than a body, and less where memory is small."""
    most = memory.share(settings.workers, memory.MESSAGES_SHARE)
    return min(settings.max_body_bytes, max(memory.LEAST_MESSAGE_BYTES, most))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


async def _start(settings: Settings, servicer: Servicer) -> Any:
    options = [
        # Each worker listens on the port; the kernel spreads connections over them.
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_message_bytes(settings)),
        ("grpc.max_send_message_length", -1),
        # Nothing but identity: what is compressed would be unpacked before anybody is asked.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.header_timeout_seconds)),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.keep_alive_seconds)),
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
