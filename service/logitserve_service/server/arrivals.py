"""Messages of gRPC while they are being received, which gRPC measures only when they are there."""

import asyncio
from typing import Any, Final

from logitserve_service.config.settings import Settings
from logitserve_service.errors import BodyTimeoutError, TooManyBytesError, UnreadableRequestError

QUICK_SECONDS: Final = 0.25
"""A message that arrives within them needs no place among the slow ones."""


class Arrivals:
    """Messages that are being received.

    gRPC says how large one is only when it is there. So of those that take long to arrive there may
    be only as many as fit into the budget of all bodies if each is as large as it may be.
    """

    def __init__(self, settings: Settings, max_total_bytes: int) -> None:
        self._max_total_bytes = max_total_bytes
        self._places = max(1, max_total_bytes // settings.max_body_bytes)
        self._seconds = settings.body_timeout_seconds

    async def receive(self, context: Any) -> bytes:
        """The message of a call.

        Raises:
            TooManyBytesError: too many others are still arriving.
            BodyTimeoutError: it took too long.
            UnreadableRequestError: there is none, or gRPC has refused it as too large.
        """
        timeout = asyncio.timeout(self._seconds)
        has_place = False

        def take_place() -> None:
            nonlocal has_place
            has_place = self._places > 0
            if has_place:
                self._places -= 1
            else:
                timeout.reschedule(0)

        loop = asyncio.get_running_loop()
        slow = loop.call_later(QUICK_SECONDS, take_place)
        try:
            async with timeout:
                message = await context.read()
        except TimeoutError:
            if has_place or self._seconds <= QUICK_SECONDS:
                raise BodyTimeoutError(self._seconds) from None
            raise TooManyBytesError(self._max_total_bytes) from None
        finally:
            slow.cancel()
            self._places += has_place
        if not isinstance(message, bytes):
            raise UnreadableRequestError("the call has no message")
        return message
