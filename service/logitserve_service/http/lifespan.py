"""What runs beside the requests, from before the first until after the last.

ASGI's lifespan protocol (specification 2.0) is spoken once, here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from starlette.types import Receive, Scope, Send

Beside = Callable[[], AbstractAsyncContextManager[None]]
"""Makes a context that is entered when the process starts to serve, and left when it has ended."""


class Lifespan:
    """The ASGI app of the lifespan scope."""

    def __init__(self, beside: Sequence[Beside]) -> None:
        """Take what runs beside the requests; it is left in the reverse order."""
        self._beside = beside

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Start, wait for the end, stop."""
        await receive()
        async with AsyncExitStack() as stack:
            for begin in self._beside:
                await stack.enter_async_context(begin())
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
