"""The direct way of the commonest request: from the parser to the queue, from batch to socket.

A request that is answered through ASGI costs a task, messages in both directions and a check of
each; for a picture of a few hundred bytes that is more than its answer costs. So one encoded
picture as the body of `POST /predict`, with nothing unusual in its head, becomes an item of a
batch as soon as it has been read, and is itself what the batch hands the answer to.

The direct way can only say yes. Whatever it does not take, and whatever turns out to fail later,
is asked through ASGI, so that there is one place which says no, and it says the same as ever.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.types import Scope

from logitserve.inference.errors import InferenceError
from logitserve_service.api.payloads import IMAGE_TYPES
from logitserve_service.errors import ServiceError, TooManyBytesError, UnauthenticatedError
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.classify import Classifier
from logitserve_service.http import problems
from logitserve_service.http.auth import Guard
from logitserve_service.http.deadlines import TIMEOUT_HEADER, Deadlines
from logitserve_service.http.headers import NOSNIFF
from logitserve_service.http.limits import Bodies
from logitserve_service.http.routes.predict import response_to
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.metrics import NO_MODEL
from logitserve_service.telemetry.recorder import Head, Observation
from logitserve_service.telemetry.request_ids import BEGUN, REQUEST_ID_HEADER, Identity, RequestIds

if TYPE_CHECKING:
    from logitserve_service.server.connection import Connection
    from logitserve_service.server.cycle import Cycle

SHORT_PATH: Final = "/predict"
MAX_BODY_BYTES: Final = 16_384
"""Larger ones are on their way for a while anyway. They come in one piece, as a rule."""

_IMAGE_TYPES = frozenset(media_type.encode() for media_type in IMAGE_TYPES)

_UNUSUAL: Final = frozenset(
    {b"expect", b"transfer-encoding", b"upgrade", b"origin", b"content-encoding", TIMEOUT_HEADER}
)
"""Fields that ask for something which only the way through ASGI does."""

_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
"""Fields that uvicorn reads who has asked from, for the access log."""


def is_short(scope: Scope, fields: Mapping[bytes, bytes]) -> bool:
    """Whether a request's body is one encoded picture, for the default model, with plain answer."""
    return (
        scope["path"] == SHORT_PATH
        and scope["method"] == "POST"
        and not scope["query_string"]
        and fields.get(b"content-type") in _IMAGE_TYPES
    )


class Direct:
    """Who takes requests from connections and puts them into the queue."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        classifier: Classifier,
        observation: Observation,
        guard: Guard,
        bodies: Bodies,
        deadlines: Deadlines,
        request_ids: RequestIds,
        reads_forwarded: bool,
    ) -> None:
        """Take what the way through ASGI has too.

        Args:
            catalog: whose default model is asked.
            classifier: the use case.
            observation: told of every answer.
            guard: who lets requests pass.
            bodies: limits what requests bring.
            deadlines: limits how long they take.
            request_ids: names them.
            reads_forwarded: whether what proxies say of who has asked is of interest.
        """
        self.catalog = catalog
        self.classifier = classifier
        self.observation = observation
        self.bodies = bodies
        self.deadlines = deadlines
        self.request_ids = request_ids
        self._check_key = guard.check_key if guard.asks_keys else None
        self._unusual = _UNUSUAL | _FORWARDED if reads_forwarded else _UNUSUAL

    def takes(self, scope: Scope) -> bool:
        """Whether a request whose head is read may go this way."""
        fields = dict(scope["headers"])
        if not is_short(scope, fields) or not self._unusual.isdisjoint(fields):
            return False
        length = fields.get(b"content-length", b"")
        if not length.isdigit() or int(length) > min(MAX_BODY_BYTES, self.bodies.max_bytes):
            return False
        return self.admits(fields)

    def admits(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these fields brings a key, where one is asked for."""
        if self._check_key is not None:
            try:
                self._check_key(fields)
            except UnauthenticatedError:
                return False
        return True


class Shortcut:
    """A request on the direct way: to its connection a cycle, to the batch the reply to an item."""

    __slots__ = (
        "_connection",
        "_direct",
        "_ended",
        "_held",
        "_identity",
        "body",
        "keep_alive",
        "more_body",
        "response_complete",
        "scope",
    )

    def __init__(
        self, direct: Direct, connection: "Connection", scope: Scope, *, keep_alive: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.response_complete = False
        self._direct = direct
        self._connection = connection
        self._ended = False  # it was answered, or left this way
        self._held = 0
        self._identity: Identity = b"", None
        direct.deadlines.watch(self, scope[BEGUN])

    def take(self, body: bytes) -> None:
        """A part of the body has come."""
        self.body += body
        try:
            self._direct.bodies.hold(len(body))
        except TooManyBytesError:
            self.leave()
        else:
            self._held += len(body)

    def submit(self) -> None:
        """Put the picture, which has been read, into the queue."""
        direct = self._direct
        self.more_body = False
        try:
            model = direct.catalog.find()
            if not direct.classifier.is_native(model, self.body):
                self.leave()
                return
            self._identity = direct.request_ids.read(self.scope["headers"])
            model.put(self.body, 1, self)
        except (InferenceError, ServiceError):
            self.leave()

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._ended

    def set_result(self, result: Answer, /) -> None:
        """Send the answer."""
        connection = self._connection
        body, headers = response_to(result)
        headers += ((REQUEST_ID_HEADER, self._identity[0]), NOSNIFF)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        lines = [b"%b: %b\r\n" % header for header in headers]
        connection.transport.write(b"".join([connection.server_state.success, *lines, end, body]))
        self.response_complete = True
        self._end((200, headers))
        if not self.keep_alive:
            connection.close_when_read()
        connection.on_response_complete()

    def set_exception(self, exception: Exception, /) -> None:
        """Let the way through ASGI find the same, and say so."""
        del exception
        self.leave()

    def cancel(self) -> bool:
        """The deadline has passed; what is asked through ASGI is late from its beginning.

        Returns:
            False: there is nobody who has to be told why.
        """
        self.leave()
        return False

    def fail(self, error: ServiceError) -> None:
        """The rest of the request does not come."""
        self.leave().fail(error)

    def gone(self) -> None:
        """The client went away."""
        if not self._ended:
            self._end((problems.CLIENT_GONE, []))

    def leave(self) -> "Cycle":
        """Ask through ASGI."""
        self._end(None)
        return self._connection.ask(self)

    def _end(self, head: Head | None) -> None:
        direct = self._direct
        self._ended = True
        direct.deadlines.end(self)
        direct.bodies.give_back(self._held)
        if head is not None:
            received = self.scope, self._identity, self.scope[BEGUN]
            model = direct.catalog.default or NO_MODEL
            direct.observation.answered(received, SHORT_PATH, model, head)
