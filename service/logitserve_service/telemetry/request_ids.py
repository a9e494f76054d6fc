"""The request id and the trace context of a request."""

import itertools
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

REQUEST_ID_HEADER = b"x-request-id"
TRACEPARENT_HEADER = b"traceparent"
_ID_BYTES = bytes(range(0x21, 0x7F))
_MAX_ID_BYTES = 128

# Version, trace id, parent id, flags; later versions may append fields (W3C Trace Context, 3.2).
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 0x01


class Trace(NamedTuple):
    """The trace of a request (W3C Trace Context, level 1)."""

    trace_id: str  # 32 hexadecimal digits
    parent_id: str  # 16 hexadecimal digits: the caller's span
    span_id: str  # 16 hexadecimal digits: the span of this request
    sampled: bool  # whether the caller may have recorded it


Identity = tuple[bytes, Trace | None]
"""A request's id and trace. A plain tuple is cheapest, and each request makes one."""

_IDENTITY: ContextVar[Identity | None] = ContextVar("identity", default=None)


class RequestIds:
    """Reads `X-Request-ID` and `traceparent` of a request; makes an id if it has none."""

    def __init__(self) -> None:
        # A random number per process and a counter are as unique as UUIDs, and cheaper.
        self._process = secrets.token_hex(8).encode()
        self._count = itertools.count(1)

    def read(self, fields: Mapping[bytes, bytes]) -> Identity:
        """Return the identity; field names are in lower case, without repeated `traceparent`."""
        request_id = fields.get(REQUEST_ID_HEADER, b"")
        if not 0 < len(request_id) <= _MAX_ID_BYTES or request_id.translate(None, _ID_BYTES):
            request_id = b"%s-%d" % (self._process, next(self._count))
        traceparent = fields.get(TRACEPARENT_HEADER)
        return request_id, None if traceparent is None else _trace(traceparent)


def _trace(traceparent: bytes) -> Trace | None:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    sampled = bool(int(match[4], 16) & _SAMPLED)
    return Trace(match[2].decode(), match[3].decode(), secrets.token_hex(8), sampled)


@contextmanager
def identified(identity: Identity) -> Iterator[None]:
    """Attach the ids of a request to log lines and new tasks in this context."""
    token = _IDENTITY.set(identity)
    try:
        yield
    finally:
        _IDENTITY.reset(token)


def described(identity: Identity) -> dict[str, str]:
    """Return the ids for a log line."""
    request_id, trace = identity
    ids = {"request_id": request_id.decode()}
    return ids if trace is None else {**ids, "trace_id": trace.trace_id, "span_id": trace.span_id}


def current() -> dict[str, str]:
    """Return the ids of the request of this context; empty without one."""
    identity = _IDENTITY.get()
    return {} if identity is None else described(identity)
