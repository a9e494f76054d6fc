"""Checks before a request body is read, and limits on the size of bodies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from logitserve_service.errors import (
    BodyTooLargeError,
    MethodNotAllowedError,
    TooManyBytesError,
    UnreadableRequestError,
)
from logitserve_service.http.auth import Authenticator
from logitserve_service.http.compression import coding_of
from logitserve_service.http.messages import RequestHead
from logitserve_service.http.probes import UNLIMITED

TIMEOUT_HEADER: Final = b"x-request-timeout-ms"

MONITORING_MS: Final = 60_000
"""Timeout of probes and metrics, independent of `request_timeout_ms`."""
_MILLISECONDS: Final = re.compile(rb"0*[1-9][0-9]{0,9}")
_SINGLE: Final = (
    *(b"host", b"content-type", b"content-encoding", b"authorization", TIMEOUT_HEADER),
)
"""Header fields that must not be repeated, because servers and proxies could choose different
ones."""


class BodyBudget:
    """Limits the size of one body, and of all bodies of unanswered requests together.

    A single body of the maximum size is always allowed.
    """

    def __init__(self, *, max_bytes: int, max_total_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Maximum size of one body."""
        self.max_total_bytes = max(max_bytes, max_total_bytes)
        """Maximum size of all bodies."""
        self._reserved = 0
        self.released = 0
        """Total bytes released since the start."""

    def check_length(self, content_length: bytes) -> None:
        """Check the announced length; raises BodyTooLargeError."""
        if int(content_length) > self.max_bytes:
            raise BodyTooLargeError(self.max_bytes)

    def reserve(self, size: int, received: int) -> None:
        """Reserve bytes for a part of a body, of which `received` bytes have arrived in total.

        Raises:
            BodyTooLargeError: the body exceeds its limit.
            TooManyBytesError: the sum of all bodies exceeds its limit.
        """
        self._reserved += size
        if received > self.max_bytes:
            raise BodyTooLargeError(self.max_bytes)
        if self._reserved > self.max_total_bytes:
            raise TooManyBytesError(self.max_total_bytes)

    def reserve_some(self, size: int) -> int:
        """Reserve up to `size` bytes; return how many. Raises TooManyBytesError for none."""
        size = min(size, self.max_total_bytes - self._reserved)
        if size <= 0:
            raise TooManyBytesError(self.max_total_bytes)
        self._reserved += size
        return size

    def release(self, size: int) -> None:
        """Release the bytes of a body."""
        self._reserved -= size
        self.released += size


@dataclass(frozen=True)
class Admission:
    """The checks of every request."""

    authenticator: Authenticator
    budget: BodyBudget
    timeout_ms: int
    """Timeout of a request in milliseconds, from its head to its response; requests can shorten
    it."""

    def check(self, head: RequestHead) -> int:
        """Check a request head; return the request's timeout in milliseconds."""
        fields = head.fields
        if len(fields) != len(head.headers):
            _check_single(head)
        if self.authenticator.required:
            self.authenticator.check(head.target.path, fields)
        if head.method != "POST" and head.target.route is not None:
            raise MethodNotAllowedError(head.method, "POST", _example(head))
        if (length := fields.get(b"content-length")) is not None:
            self.budget.check_length(length)
        if b"content-encoding" in fields:
            coding_of(fields)
        if head.target.route is None and head.target.path in UNLIMITED:
            return self.time_of(fields, max(self.timeout_ms, MONITORING_MS))
        return self.time_of(fields, self.timeout_ms)

    @staticmethod
    def time_of(fields: Mapping[bytes, bytes], most: int) -> int:
        """Return the timeout that a request asks for, at most `most` milliseconds."""
        given = fields.get(TIMEOUT_HEADER)
        return most if given is None else min(most, _milliseconds(given))


def _milliseconds(value: bytes) -> int:
    if not _MILLISECONDS.fullmatch(value):
        shown = value[:40].decode("latin-1")
        problem = "it must be a whole number of milliseconds, at least 1"
        raise UnreadableRequestError(f"X-Request-Timeout-Ms is {shown!r}; {problem}")
    return int(value)


def _example(head: RequestHead) -> str:
    """Return an example command for a browser that opened the route: it posts an image."""
    if head.method != "GET" or head.target.route is None or head.target.route.form != "predict":
        return ""
    host = head.fields.get(b"host", b"localhost").decode("latin-1")
    path = head.target.raw_path.decode("latin-1")
    return f"curl -F file=@image.png {head.scheme}://{host}{path}"


def _check_single(head: RequestHead) -> None:
    names = [name for name, _ in head.headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            problem = f"the header field {name.decode()} occurs twice; send it once"
            raise UnreadableRequestError(problem)
