"""A call that repeats beside the requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

logger = logging.getLogger("logitserve.periodically")


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
        while True:
            await asyncio.sleep(seconds)
            try:
                if (pending := call()) is not None:
                    await pending
            except Exception:
                logger.exception("%s failed; it runs again in %g s", call, seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
