"""Checks before the body of a request is read, and limits on the bytes of bodies."""

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
"""For probes and metrics, whatever other requests may take."""
_MILLISECONDS: Final = re.compile(rb"0*[1-9][0-9]{0,9}")
_SINGLE: Final = (
    *(b"host", b"content-type", b"content-encoding", b"authorization", TIMEOUT_HEADER),
)
"""Header fields that a request may have once; of two, readers would choose different ones."""


class BodyBudget:
    """Limits one body, and the sum of all bodies whose requests are not answered yet.

    The largest single body is always allowed.
    """

    def __init__(self, *, max_bytes: int, max_total_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Of one body."""
        self.max_total_bytes = max(max_bytes, max_total_bytes)
        """Of all bodies."""
        self._reserved = 0
        self.released = 0
        """Bytes of all bodies until now."""

    def check_length(self, content_length: bytes) -> None:
        """Check the announced length, or raise BodyTooLargeError."""
        if int(content_length) > self.max_bytes:
            raise BodyTooLargeError(self.max_bytes)

    def reserve(self, size: int, received: int) -> None:
        """Count a part of a body, of which `received` bytes have arrived, with this part.

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
        """Reserve so many bytes, or what is left; raises TooManyBytesError where none is."""
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
    """The checks that every request passes."""

    authenticator: Authenticator
    budget: BodyBudget
    timeout_ms: int
    """Milliseconds from the head of a request to its response; a request may set a shorter time."""

    def check(self, head: RequestHead) -> int:
        """Check a head; return the milliseconds that the request may take, or raise."""
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
        """The milliseconds that a request with these fields may take, at most `most`, or raise."""
        given = fields.get(TIMEOUT_HEADER)
        return most if given is None else min(most, _milliseconds(given))


def _milliseconds(value: bytes) -> int:
    if not _MILLISECONDS.fullmatch(value):
        shown = value[:40].decode("latin-1")
        problem = "it must be a whole number of milliseconds, at least 1"
        raise UnreadableRequestError(f"X-Request-Timeout-Ms is {shown!r}; {problem}")
    return int(value)


def _example(head: RequestHead) -> str:
    """For who opened the route in a browser: a command that posts an image."""
    if head.method != "GET" or head.target.route is None or head.target.route.form != "predict":
        return ""
    host = head.fields.get(b"host", b"localhost").decode("latin-1")
    path = head.target.raw_path.decode("latin-1")
    return f"curl -F file=@image.png {head.scheme}://{host}{path}"


def _check_single(head: RequestHead) -> None:
    names = [name for name, _ in head.headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            problem = f"the header field {name.decode()} stands there twice; send it once"
            raise UnreadableRequestError(problem)
