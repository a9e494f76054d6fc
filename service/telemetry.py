"""What tells one request from another: its id, and where its time went."""

import re
import uuid
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "x-request-id"

_ACCEPTABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestId:
    """Gives every response the `X-Request-ID` of its request, or a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with a `send` that adds the header."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = REQUEST_ID_HEADER.encode()
        given = next((value for key, value in scope["headers"] if key == name), b"")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex.encode()

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id.decode()
            await send(message)

        await self.app(scope, receive, with_id)


def server_timing(seconds: Mapping[str, float]) -> str:
    """A `Server-Timing` header value (W3C Server Timing): metric name → milliseconds."""
    return ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())
