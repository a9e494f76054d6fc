"""Messages of gRPC that nobody waits for any longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psutil
import pytest

from logitserve_service.config.settings import Settings
from logitserve_service.errors import BodyTimeoutError
from logitserve_service.server.grpc_messages import MessageReceiver
from logitserve_service.server.memory import trim

MESSAGE = bytes(2**23)
CALLS = 40
METHOD = "/test/Receive"


@asynccontextmanager
async def serving(receiver: MessageReceiver, seen: list[type]) -> AsyncIterator[str]:
    """A server that waits for the message of each call, and its address."""

    async def call(_: Any, context: Any) -> bytes:
        try:
            await receiver.receive(context)
            seen.append(bytes)
        except BodyTimeoutError as error:
            seen.append(type(error))
        return b""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, _: Any) -> Any:
            return grpc.stream_unary_rpc_method_handler(call)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def growth(seconds: float, seen: list[type], expected: type) -> int:
    """Bytes by which the process has grown after so many calls that ended as expected."""
    settings = Settings(body_timeout_seconds=seconds)
    async with serving(MessageReceiver(settings, 2**30), seen) as address:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(address, options) as channel:
            send = channel.unary_unary(METHOD)
            await send(MESSAGE)
            trim()
            before: int = psutil.Process().memory_info().rss
            while seen.count(expected) < CALLS and len(seen) < 50 * CALLS:
                await send(MESSAGE)
    trim()
    return int(psutil.Process().memory_info().rss) - before


@pytest.mark.parametrize("seconds", [1e-6, 20])
def test_a_late_message_is_freed(seconds: float) -> None:
    seen: list[type] = []
    expected = BodyTimeoutError if seconds < 1 else bytes
    grown = asyncio.run(growth(seconds, seen, expected))
    assert seen.count(expected) == CALLS
    assert grown < CALLS * len(MESSAGE) / 4
