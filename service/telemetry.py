"""What tells one request from another: its id, and where its time went."""

import itertools
import re
import secrets
from collections.abc import Iterable

from service.classify import Timing

REQUEST_ID_HEADER = b"x-request-id"

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestIds:
    """Takes the `X-Request-ID` that a request brings, or makes one."""

    def __init__(self) -> None:
        # One random draw a process and a count: as unique as a UUID a request, and cheaper.
        self._process = secrets.token_hex(8).encode()
        self._count = itertools.count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The id of a request with these headers; names in lower case."""
        for name, given in headers:
            if name == REQUEST_ID_HEADER and _ACCEPTABLE_ID.fullmatch(given):
                return given
        return b"%s-%d" % (self._process, next(self._count))


def server_timing(timing: Timing) -> bytes:
    """A `Server-Timing` header value (W3C Server Timing), in milliseconds."""
    return b"decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f" % (
        timing.decode * 1000,
        timing.queue * 1000,
        timing.inference * 1000,
    )
