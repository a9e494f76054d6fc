"""The keys of gRPC calls: metadata `authorization: Bearer KEY` or `x-api-key: KEY`, as in HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from logitserve_service.errors import UnauthenticatedError
from logitserve_service.http import problems
from logitserve_service.http.auth import Guard
from logitserve_service.server.grpc.servicer import CODES, SERVICE

OPEN_CALLS: Final = frozenset({f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady"})


class KeyInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets nobody call without a key, where keys are asked."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Hand on, or refuse before the message is read."""
        if handler_call_details.method in OPEN_CALLS:
            return await continuation(handler_call_details)
        metadata = {
            name.encode(): value if isinstance(value, bytes) else value.encode()
            for name, value in handler_call_details.invocation_metadata
        }
        try:
            self._guard.check_key(metadata)
        except UnauthenticatedError as error:
            return _refusing(error)
        return await continuation(handler_call_details)


def _refusing(error: Exception) -> Any:
    status, detail = problems.explained(error)

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(CODES[status], detail)

    # A call of one message would be read whole first; of a stream, nothing is read.
    return grpc.stream_unary_rpc_method_handler(refuse)
