"""Limits that stand at the ASGI layer, before any route reads a byte."""

from collections.abc import Iterable

from starlette.types import Message, Receive

from service.errors import BodyTooLargeError


def limited(receive: Receive, headers: Iterable[tuple[bytes, bytes]], *, max_bytes: int) -> Receive:
    """A `receive` that refuses a body over a size, by its announced length or as it is read.

    Starlette's own limit does the same, but answers in plain text. This one raises, so that the
    error reaches whoever reads the body, and through them the one place that answers errors; a
    body that nobody reads costs nothing.

    Args:
        receive: of the request.
        headers: of the request; names in lower case.
        max_bytes: of the body.

    Returns:
        a `receive` that raises `BodyTooLargeError`.
    """
    too_large = False
    for name, value in headers:
        if name == b"content-length":
            too_large = value.isdigit() and int(value) > max_bytes
    received = 0

    async def counted() -> Message:
        nonlocal received
        if too_large:
            raise BodyTooLargeError(max_bytes)
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise BodyTooLargeError(max_bytes)
        return message

    return counted
