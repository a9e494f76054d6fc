"""Limits on gRPC messages that are being received; gRPC reports their size only at the end."""

import asyncio
import time
import types
from collections.abc import Generator
from typing import Any, Final

from logitserve_service.config.settings import Settings
from logitserve_service.errors import BodyTimeoutError, TooManyBytesError, UnreadableRequestError

QUICK_SECONDS: Final = 0.25
"""A message that arrives within this time does not count as slow."""
QUICK_COPY_SECONDS: Final = 0.001
"""A message that is copied within this time needs no pause."""
PAUSE_SHARE: Final = 0.1
"""After a copy, the next one waits for this share of its time, so that the event loop can do other
work."""


class MessageReceiver:
    """Messages that are being received.

    gRPC reports the size of a message only after receiving it. So the number of slow messages is
    limited to those that fit into the budget of all bodies at their maximum size.
    """

    def __init__(self, settings: Settings, max_total_bytes: int) -> None:
        self._max_total_bytes = max_total_bytes
        self._places = max(1, max_total_bytes // settings.max_body_bytes)
        self._seconds = settings.body_timeout_seconds
        self._copying = asyncio.Lock()

    async def receive(self, context: Any) -> bytes:
        """Return the message of a call.

        Raises:
            TooManyBytesError: too many slow messages are being received.
            BodyTimeoutError: the message did not arrive in time.
            UnreadableRequestError: there is no message, or gRPC refused it as too large.
        """
        message = await self.next(context)
        if message is None:
            raise UnreadableRequestError("the call has no message")
        return message

    async def next(self, context: Any) -> bytes | None:
        """Return the next message of a call; None if there is none. Raises like `receive`."""
        # Never cancelled: gRPC would keep the received data of a cancelled read for ever.
        reading = asyncio.ensure_future(self._read(context))
        reading.add_done_callback(_retrieve)
        await asyncio.wait({reading}, timeout=min(QUICK_SECONDS, self._seconds))
        if not reading.done():
            await self._wait(reading)
        message = reading.result()
        return message if isinstance(message, bytes) else None

    @types.coroutine
    def _read(self, context: Any) -> Generator[Any, None, Any]:
        """Read a message. Large messages are copied one at a time, with pauses.

        gRPC copies a message when its reader resumes, and 30 MB block the event loop for 50 ms. Of
        twenty that arrive together, it would copy ten in a row, while a probe needs several turns
        of the event loop.
        """
        steps = context.read().__await__()
        try:
            waited_for = next(steps)
            while True:
                yield waited_for
                yield from self._copying.acquire().__await__()
                begun = time.perf_counter()
                try:
                    waited_for = next(steps)
                finally:
                    self._end_copy(time.perf_counter() - begun)
        except StopIteration as ended:
            return ended.value

    def _end_copy(self, seconds: float) -> None:
        if seconds < QUICK_COPY_SECONDS:
            self._copying.release()
        else:
            asyncio.get_running_loop().call_later(seconds * PAUSE_SHARE, self._copying.release)

    async def _wait(self, reading: asyncio.Future[Any]) -> None:
        """Wait for a slow message."""
        left = self._seconds - QUICK_SECONDS
        if left > 0 and not self._places:
            raise TooManyBytesError(self._max_total_bytes)
        self._places -= 1
        try:
            await asyncio.wait({reading}, timeout=max(0, left))
        finally:
            self._places += 1
        if not reading.done():
            raise BodyTimeoutError(self._seconds)


def _retrieve(reading: asyncio.Future[Any]) -> None:
    """Retrieve the exception of an abandoned read, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()
