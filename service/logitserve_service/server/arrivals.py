"""Messages of gRPC while they are being received, which gRPC measures only when they are there."""

import asyncio
import time
import types
from collections.abc import Generator
from typing import Any, Final

from logitserve_service.config.settings import Settings
from logitserve_service.errors import BodyTimeoutError, TooManyBytesError, UnreadableRequestError

QUICK_SECONDS: Final = 0.25
"""A message that arrives within them needs no place among the slow ones."""
QUICK_COPY_SECONDS: Final = 0.001
"""A message that is copied within them needs no pause."""
PAUSE_SHARE: Final = 0.1
"""Of the seconds of a copy: so long the event loop is left to others after it."""


class Arrivals:
    """Messages that are being received.

    gRPC says how large one is only when it is there. So of those that take long to arrive there may
    be only as many as fit into the budget of all bodies if each is as large as it may be.
    """

    def __init__(self, settings: Settings, max_total_bytes: int) -> None:
        self._max_total_bytes = max_total_bytes
        self._places = max(1, max_total_bytes // settings.max_body_bytes)
        self._seconds = settings.body_timeout_seconds
        self._copying = asyncio.Lock()

    async def receive(self, context: Any) -> bytes:
        """The message of a call.

        Raises:
            TooManyBytesError: too many others are still arriving.
            BodyTimeoutError: it took too long.
            UnreadableRequestError: there is none, or gRPC has refused it as too large.
        """
        message = await self.next(context)
        if message is None:
            raise UnreadableRequestError("the call has no message")
        return message

    async def next(self, context: Any) -> bytes | None:
        """One more message of a call; None if there is none. Raises as `receive` does."""
        # Never cancelled: gRPC would keep what it received for a reader that has gone, for ever.
        reading = asyncio.ensure_future(self._read(context))
        reading.add_done_callback(_retrieve)
        await asyncio.wait({reading}, timeout=min(QUICK_SECONDS, self._seconds))
        if not reading.done():
            await self._wait(reading)
        message = reading.result()
        return message if isinstance(message, bytes) else None

    @types.coroutine
    def _read(self, context: Any) -> Generator[Any, None, Any]:
        """Read a message. Large ones are copied one after the other, with pauses.

        gRPC copies a message when its reader goes on, and 30 MB hold the event loop for 50 ms. Of
        twenty that arrive together, it would copy ten at once, and a probe takes several turns.
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
        """For a message that takes long."""
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
    """Take the exception of a message that nobody waits for, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()
