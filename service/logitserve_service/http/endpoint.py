"""The endpoint: it handles every request in the same steps.

Admit (id, key, limits, deadline) → read the form → look up the model → batch and run → render →
write → record. It does not depend on sockets or ASGI: a connection or the ASGI adapter opens a
ticket with the head of a request, adds the body, and gets one response. Requests other than
inference take the same steps, with the FastAPI application in place of a model.
"""

import asyncio
import functools
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from logitserve_service.api.call import Call, Content, Limits
from logitserve_service.api.codecs import codec_of
from logitserve_service.errors import DeadlineError, ServiceError, TooManyChunksError
from logitserve_service.execution.job import Job
from logitserve_service.execution.result import Result
from logitserve_service.http import problems
from logitserve_service.http.admission import Admission
from logitserve_service.http.compression import coding_of, unpack
from logitserve_service.http.cors import Cors
from logitserve_service.http.documents import Answer, Documents
from logitserve_service.http.messages import RequestHead, Response
from logitserve_service.http.routes import Route, find
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.telemetry.exchange import NO_MODEL, Exchange
from logitserve_service.telemetry.recorder import Recorder
from logitserve_service.telemetry.request_ids import REQUEST_ID_HEADER, RequestIds, identified
from logitserve_service.telemetry.timing import server_timing

INLINE_BYTES: Final = 16_384
"""Larger bodies are parsed in a thread, so that the event loop is not blocked. The slowest body of
16 kB takes about 1 ms (multipart of empty files), of 64 kB 12 ms."""
FEW_PARTS, SMALL_PART = 1024, 64
"""A body of more than `FEW_PARTS` chunks must have `SMALL_PART` bytes per chunk on average: each
chunk costs the event loop a microsecond, regardless of its size."""

_LENGTH: Final = b"content-length: %d\r\n"
_HEAD: Final = b"%b%b" + REQUEST_ID_HEADER + b": %b\r\nx-content-type-options: nosniff\r\n"
NO_STORE: Final = b"x-no-store"
"""Request header field that excludes a request from the store."""
_WITHOUT_LENGTH: Final = (204, 304)

Made = TypeVar("Made")
Reply = Callable[["Ticket", Response], None]
"""Called once with a ticket and its response, from the event loop."""


@dataclass(frozen=True)
class Endpoint:
    """The dependencies of all responses of a process."""

    catalog: Catalog
    documents: Documents
    admission: Admission
    limits: Limits
    cors: Cors
    recorder: Recorder
    root_path: str = ""
    """Path prefix under which a proxy serves the routes."""
    keeps: bool = False
    """Whether answers are stored, unless a request has the field `NO_STORE`."""
    request_ids: RequestIds = field(default_factory=RequestIds)
    parser: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "parse"))
    """Parses large bodies one at a time: in parallel they would not be faster, but use more
    memory."""
    unpacking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def open(self, head: RequestHead, reply: Reply) -> "Ticket":
        """Admit a request; return its ticket, which responds once `proceed` is called."""
        ticket = Ticket(self, head, reply)
        try:
            if self.cors.enabled:
                ticket.response = self.cors.preflight(head)
            if ticket.response is None:
                timeout_ms = self.admission.check(head)
                if timeout_ms != ticket.timeout_ms:
                    ticket.limit_time(timeout_ms)
        except ServiceError as error:
            ticket.error = error
        return ticket

    def refuse(self, head: RequestHead, error: Exception, reply: Reply) -> "Ticket":
        """Return a ticket for a request that is refused before admission."""
        ticket = Ticket(self, head, reply)
        ticket.error = error
        return ticket


class Ticket:
    """One request from its head to its response."""

    error: Exception | None = None
    """Why the request fails."""
    response: Response | None = None
    """A response determined by the head, such as to a CORS preflight."""
    complete = False
    """Whether the whole body has been received."""
    ended = False
    """Whether the request was answered, or its client has disconnected."""
    first = False
    """Whether all earlier requests of the connection have been answered."""
    _started = False
    _size = 0
    _parts = 0
    _body = b""
    """The body, if it arrived in one part; else its first part."""
    _buffer: io.BytesIO | None = None
    """A body of several parts. Joining a list of parts at the end would need twice the memory."""
    _timer: asyncio.TimerHandle | None = None
    _task: "asyncio.Task[Any] | None" = None
    _read: "asyncio.Future[Call] | None" = None
    _job: Job | None = None

    def __init__(self, endpoint: Endpoint, head: RequestHead, reply: Reply) -> None:
        self.head = head
        self.route = route = head.target.route
        identity = endpoint.request_ids.read(head.fields)
        known = head.method, head.target.raw_path, head.client, identity, head.begun
        if route is None:
            self.exchange = Exchange(*known)
        else:
            model = route.name or endpoint.catalog.default or NO_MODEL
            self.exchange = Exchange(*known, route.template, model)
        endpoint.recorder.begun()
        self.timeout_ms = endpoint.admission.timeout_ms
        self._endpoint = endpoint
        self._reply = reply

    def limit_time(self, timeout_ms: int) -> None:
        """Set a deadline other than the default, with its own timer."""
        self.timeout_ms = timeout_ms
        self._timer = asyncio.get_running_loop().call_later(timeout_ms / 1000, self.expire)

    @property
    def deadline(self) -> float:
        """Deadline of the response, by `time.perf_counter`."""
        return self.head.begun + self.timeout_ms / 1000

    def add(self, part: bytes) -> None:
        """Add a received part of the body."""
        if self.ended or self.error is not None:
            return
        self._size += len(part)
        self._parts += 1
        if self._buffer is not None:
            self._buffer.write(part)
        elif self._body:
            self._buffer = io.BytesIO()
            self._buffer.writelines((self._body, part))
        else:
            self._body = part
        try:
            self._endpoint.admission.budget.reserve(len(part), self._size)
            if self._parts > FEW_PARTS and self._size < SMALL_PART * self._parts:
                raise TooManyChunksError(FEW_PARTS, SMALL_PART)
        except ServiceError as error:
            self.error = error

    def proceed(self) -> None:
        """Respond, if everything needed has arrived.

        To be called when all earlier requests of the connection have been answered, and after each
        later change of the ticket.
        """
        self.first = True
        if self.ended:
            return
        if self.error is not None:
            self._fail(self.error)
        elif self.response is not None:
            self._respond(self.response)
        elif self.complete and not self._started:
            self._started = True
            body = self._body if self._buffer is None else self._buffer.getvalue()
            self._drop_body()
            if body and b"content-encoding" in self.head.fields:
                self._unpack(body)
            else:
                self._answer(body)

    def _unpack(self, body: bytes) -> None:
        coding = coding_of(self.head.fields)
        if coding is None:
            self._answer(body)
            return
        budget, packed = self._endpoint.admission.budget, len(body)

        def reserve(size: int) -> int:
            size = budget.reserve_some(size)
            self._size += size
            return size

        def release(size: int) -> None:
            if not self.ended:
                self._size -= size
                budget.release(size)

        def on_unpacked(body: bytes) -> None:
            release(packed)
            self._answer(body)

        unpacking = unpack(
            body,
            coding,
            most=budget.max_bytes,
            reserve=reserve,
            release=release,
            executor=self._endpoint.parser,
            turn=self._endpoint.unpacking,
        )
        self._task = asyncio.get_running_loop().create_task(unpacking)
        self._when_done(self._task, on_unpacked)

    def _answer(self, body: bytes) -> None:
        if self.route is not None:
            self._classify(self.route, body)
            return
        with identified(self.exchange.identity):
            self._task = task = self._endpoint.documents.start(self.head, body)
        self._when_done(task, self._on_document)

    def _when_done(self, task: "asyncio.Future[Made]", go_on: Callable[[Made], None]) -> None:
        """Continue with the result of a task, or respond with its error."""

        def on_done(task: "asyncio.Future[Made]") -> None:
            if self.ended or task.cancelled():
                return
            # Not raised here: its traceback would hold this frame, and so a cycle with the parsed
            # body.
            error = task.exception()
            if isinstance(error, Exception):
                self._fail(error)
            else:
                go_on(task.result())

        task.add_done_callback(on_done)

    def _drop_body(self) -> None:
        self._body = b""
        self._buffer = None

    def fail(self, error: Exception) -> None:
        """Fail a request that cannot be received completely, or takes too long."""
        if self.error is None:
            self.error = error
        if self.first:
            self.proceed()

    def expire(self) -> None:
        """Fail the request, because its deadline has passed."""
        if not self.ended:
            job, timeout_ms = self._job, self.timeout_ms
            self.fail(DeadlineError(timeout_ms) if job is None else job.expired(timeout_ms))

    def cancel(self) -> None:
        """End the request, because its client has disconnected."""
        if not self.ended:
            self._end()
            self.exchange.status = problems.CLIENT_GONE
            self._endpoint.recorder.record(self.exchange)

    def _classify(self, route: Route, body: bytes) -> None:
        head, endpoint = self.head, self._endpoint
        try:
            model = find(endpoint.catalog, route)
            if endpoint.catalog.canaries and route.version is None and route.label is None:
                model = endpoint.catalog.drawn(model, head.fields, self.exchange.identity[0])
            self.exchange.version = model.card.version
            self._codec = codec = codec_of(route.form, head.fields.get(b"content-type"))
            content = Content(body, head.fields, head.target.query)
            if len(body) <= INLINE_BYTES or codec.instant:
                self._submit(model, codec.read(content, model.card, endpoint.limits))
                return
        except Exception as error:  # noqa: BLE001 - `_fail` logs what is unexpected
            self._fail(error)
            return
        loop = asyncio.get_running_loop()
        self._read = loop.run_in_executor(
            endpoint.parser, codec.read, content, model.card, endpoint.limits
        )
        self._when_done(self._read, functools.partial(self._on_read, model))

    def _on_read(self, model: LoadedModel, call: Call) -> None:
        try:
            self._submit(model, call)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _submit(self, model: LoadedModel, call: Call) -> None:
        self._call = call
        self._job = model.batcher.submit(call.inputs, call.options, self._on_result)
        if self._endpoint.keeps:
            self._job.is_private = NO_STORE in self.head.fields

    def _on_result(self, result: Result | Exception) -> None:
        if self.ended:
            return
        if isinstance(result, Exception):
            self._fail(result)
            return
        begun = time.perf_counter()
        try:
            body, head = self._codec.write(self._call, result)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
            return
        self.exchange.timing = timing = result.timing
        timing.output += time.perf_counter() - begun
        if result.ids is not None and len(result.ids) == 1:
            head += b"x-prediction-id: %b\r\n" % result.ids[0].encode()
        self._respond(Response(200, head + server_timing(timing), body))

    def _on_document(self, answer: Answer) -> None:
        exchange = self.exchange
        exchange.route, exchange.model, exchange.version = answer[:3]
        if answer.response.status >= HTTPStatus.BAD_REQUEST:
            title = HTTPStatus(answer.response.status).phrase
            self.exchange.problem = title, problems.detail_of(answer.response)
        self._respond(answer.response)

    def _fail(self, error: Exception) -> None:
        with identified(self.exchange.identity):
            response = problems.of_error(error, "" if self.route is None else self.route.form)
        self.exchange.problem = type(error).__name__, problems.detail_of(response)
        self._respond(response)

    def _respond(self, response: Response) -> None:
        self._end()
        exchange = self.exchange
        exchange.status = response.status
        exchange.size = size = len(response.body)
        length = b"" if response.status in _WITHOUT_LENGTH else _LENGTH % size
        response.head = _HEAD % (response.head, length, exchange.identity[0])
        if self._endpoint.cors.enabled:
            response.head += self._endpoint.cors.headers(self.head.fields.get(b"origin"))
        self._reply(self, response)
        self._endpoint.recorder.record(exchange)

    def _end(self) -> None:
        self.ended = True
        if self._job is not None:
            self._job.cancel()
            self._job = None  # the job refers to this ticket
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its error refers to the unpacked body, and so to this ticket
        if self._read is not None:
            self._read.cancel()  # if it waits for the parser, it holds a body that is not needed
            self._read = None
        if self._timer is not None:
            self._timer.cancel()
        self._endpoint.admission.budget.release(self._size)
        self._drop_body()
