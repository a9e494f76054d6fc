"""What tells one request from another: its id, and where its time went."""

import itertools
import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.classify import Timing

REQUEST_ID_HEADER = b"x-request-id"

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestId:
    """Gives every response the `X-Request-ID` of its request, or a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # One random draw a process and a count: as unique as a UUID a request, and cheaper.
        self._process = secrets.token_hex(8)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with a `send` that adds the header."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        for name, given in scope["headers"]:
            if name == REQUEST_ID_HEADER and _ACCEPTABLE_ID.fullmatch(given):
                request_id = given
                break
        else:
            request_id = f"{self._process}-{next(self._count)}".encode()

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id)]
            await send(message)

        await self.app(scope, receive, with_id)


def server_timing(timing: Timing) -> str:
    """A `Server-Timing` header value (W3C Server Timing), in milliseconds."""
    return (
        f"decode;dur={timing.decode * 1000:.3f}, queue;dur={timing.queue * 1000:.3f}, "
        f"inference;dur={timing.inference * 1000:.3f}"
    )
