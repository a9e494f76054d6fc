"""A call that repeats beside the requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

logger = logging.getLogger("logitserve.periodically")


class Failures:
    """Logs a failure that repeats once, and how often it did when it is over or another comes."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._last = ""
        self._count = 0

    def failed(self, error: Exception) -> None:
        """What was tried has failed."""
        text = repr(error)
        if text != self._last:
            self.worked()
            self._log.error("%s failed; it is tried again", self._what, exc_info=error)
        self._last = text
        self._count += 1

    def worked(self) -> None:
        """What was tried has not failed, or in another way."""
        if self._count > 1:
            self._log.warning("%s failed %d times: %s", self._what, self._count, self._last)
        self._last, self._count = "", 0


@asynccontextmanager
async def periodically(
    seconds: float, call: Callable[[], Awaitable[None] | None]
) -> AsyncIterator[None]:
    """Repeat a call on the event loop until the context ends; one that fails is logged.

    Args:
        seconds: to wait before each call.
        call: a plain or an async function.
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
