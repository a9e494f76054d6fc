"""Limits that stand at the ASGI layer, before any route reads a byte."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError


class BodyLimit:
    """Refuses bodies over a size: by their announced length, and counted while they are read.

    Starlette's own limit does the same, but answers in plain text. This one raises
    `BodyTooLargeError` out of `receive`, so that it reaches whoever reads the body, and through
    them the one place that answers errors; a body that nobody reads costs nothing.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with a `receive` that counts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        too_large = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                too_large = value.isdigit() and int(value) > self.max_bytes
        received = 0

        async def counted() -> Message:
            nonlocal received
            if too_large:
                raise BodyTooLargeError(self.max_bytes)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise BodyTooLargeError(self.max_bytes)
            return message

        await self.app(scope, counted, send)
