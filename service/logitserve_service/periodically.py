"""Repeat a call on the event loop while requests are served."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

logger = logging.getLogger("logitserve.periodically")


class Failures:
    """Logs a repeated failure once, and their number when they end or another kind begins."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._last = ""
        self._count = 0

    def failed(self, error: Exception) -> None:
        """Record that a call failed."""
        text = repr(error)
        if text != self._last:
            self.worked()
            self._log.error("%s failed; it will be retried", self._what, exc_info=error)
        self._last = text
        self._count += 1

    def worked(self) -> None:
        """Record that a call succeeded, or failed with another error."""
        if self._count > 1:
            self._log.warning("%s failed %d times: %s", self._what, self._count, self._last)
        self._last, self._count = "", 0


@asynccontextmanager
async def periodically(
    seconds: float, call: Callable[[], Awaitable[None] | None]
) -> AsyncIterator[None]:
    """Repeat a call on the event loop until the context ends; failures are logged.

    Args:
        seconds: to wait before each call.
        call: a function or coroutine function.
    """

    async def repeat() -> None:
        failures = Failures(logger, str(call))
        while True:
            await asyncio.sleep(seconds)
            try:
                if (pending := call()) is not None:
                    await pending
            except Exception as error:  # noqa: BLE001 - logged; it must go on
                failures.failed(error)
            else:
                failures.worked()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
