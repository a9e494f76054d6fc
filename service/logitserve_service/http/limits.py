"""What requests may carry, and the limits that stand before any route reads a byte."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from starlette.types import Message, Receive

from logitserve_service.config.settings import Settings
from logitserve_service.errors import BodyTooLargeError, TooManyBytesError


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may carry."""

    pictures: int
    json_depth: int
    """Lists and objects in one another."""
    json_values: int
    """Values, lists and objects together."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(settings.max_pictures, settings.max_json_depth, settings.max_json_values)


class Bodies:
    """The bodies that a process holds while it answers their requests."""

    def __init__(self, *, max_bytes: int, max_total_bytes: int) -> None:
        """Take the limits.

        Args:
            max_bytes: of one body.
            max_total_bytes: of all bodies that are held at one time; one body is always allowed.
        """
        self._max_bytes = max_bytes
        self._max_total_bytes = max(max_bytes, max_total_bytes)
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of the bodies whose requests are not answered yet."""
        return self._held

    @property
    def max_bytes(self) -> int:
        """Of one body."""
        return self._max_bytes

    def hold(self, size: int) -> None:
        """Count a body that has been read.

        Raises:
            TooManyBytesError: too much is held already; this was not counted.
        """
        if self._held + size > self._max_total_bytes:
            raise TooManyBytesError(self._max_total_bytes)
        self._held += size

    def give_back(self, size: int) -> None:
        """Count that a body of `hold` is not held any more."""
        self._held -= size

    def limited(
        self, receive: Receive, content_length: bytes | None
    ) -> tuple[Receive, Callable[[], None]]:
        """A `receive` that refuses a body by its announced length or as it is read.

        Starlette's own limit does the same, but answers in plain text. This one raises, so that
        the error reaches whoever reads the body, and through them the one place that answers
        errors; a body that nobody reads costs nothing.

        Args:
            receive: of the request.
            content_length: what the request says of its body.

        Returns:
            a `receive` that raises `BodyTooLargeError` and `TooManyBytesError`, and what is to be
            called when the request was answered.
        """
        max_bytes = self._max_bytes
        too_large = (
            content_length is not None
            and content_length.isdigit()
            and int(content_length) > max_bytes
        )
        received = 0

        async def counted() -> Message:
            nonlocal received
            if too_large:
                raise BodyTooLargeError(max_bytes)
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received > max_bytes:
                raise BodyTooLargeError(max_bytes)
            if self._held > self._max_total_bytes:
                raise TooManyBytesError(self._max_total_bytes)
            return message

        def release() -> None:
            self._held -= received

        return counted, release
