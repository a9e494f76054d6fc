"""What tells one request from another: its id, its trace, and where its time went."""

import itertools
import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

from logitserve_service.execution.classify import Timing

REQUEST_ID_HEADER = b"x-request-id"
TRACEPARENT_HEADER = b"traceparent"

BEGUN = "logitserve.begun"
"""Where a scope says when the first byte of its request came, by `time.perf_counter`."""

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")

# Version, trace id, parent id, flags; later versions may say more behind (W3C Trace Context,
# section 3.2). Version ff, and ids of zeros alone, are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 0x01


class Trace(NamedTuple):
    """A trace that a request belongs to (W3C Trace Context, level 1)."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str
    """16 hexadecimal digits: what the caller calls its own part, of which ours is a part."""
    span_id: str
    """16 hexadecimal digits: what our part is called."""
    sampled: bool
    """Whether the caller may have recorded it."""


Identity = tuple[bytes, Trace | None]
"""A request's id and trace. A bare tuple, because each request makes one."""

_IDENTITY: ContextVar[Identity | None] = ContextVar("identity", default=None)


class RequestIds:
    """Takes the `X-Request-ID` that a request brings, or makes one; the same with `traceparent`."""

    def __init__(self) -> None:
        # One random draw a process and a count: as unique as a UUID a request, and cheaper.
        self._process = secrets.token_hex(8).encode()
        self._count = itertools.count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity:
        """Who the request with these headers is, for what logs from now on in its context.

        Args:
            headers: names in lower case.
        """
        identity = self.read(headers)
        _IDENTITY.set(identity)
        return identity

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity:
        """The same, for who has no context of its own."""
        request_id = trace = None
        for name, given in headers:
            if name == REQUEST_ID_HEADER and _ACCEPTABLE_ID.fullmatch(given):
                request_id = given
            elif name == TRACEPARENT_HEADER:
                trace = continued(headers)
        if request_id is None:
            request_id = b"%s-%d" % (self._process, next(self._count))
        return request_id, trace


def continued(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace that `traceparent` names, with a span of our own; None if there is not one valid.

    Args:
        headers: names in lower case.
    """
    given = [value for name, value in headers if name == TRACEPARENT_HEADER]
    match = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    return Trace(
        trace_id=match[2].decode(),
        parent_id=match[3].decode(),
        span_id=secrets.token_hex(8),
        sampled=bool(int(match[4], 16) & _SAMPLED),
    )


def described(identity: Identity) -> dict[str, str]:
    """The ids, as logs have them."""
    request_id, trace = identity
    said = {"request_id": request_id.decode("ascii")}
    if trace is not None:
        said |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
    return said


def current() -> dict[str, str]:
    """The ids of the request that is being answered in this context; none outside of one."""
    identity = _IDENTITY.get()
    return {} if identity is None else described(identity)


def server_timing(timing: Timing) -> bytes:
    """A `Server-Timing` header value (W3C Server Timing), in milliseconds."""
    return b"decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f" % (
        timing.decode * 1000,
        timing.queue * 1000,
        timing.inference * 1000,
    )
