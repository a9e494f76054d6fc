"""The gRPC server of a process: its options, port and shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from logitserve_service.config.settings import Settings
from logitserve_service.server import memory, tls
from logitserve_service.server.drain import EXIT_SECONDS
from logitserve_service.server.grpc import Parts, Servicer


@asynccontextmanager
async def running(parts: Parts) -> AsyncIterator[None]:
    """Serve gRPC until the process accepts no more connections, then finish the calls in flight."""
    drain, servicer = parts.drain, Servicer(parts)
    server = await _start(parts.settings, servicer, parts.certificate)

    async def stop() -> None:
        await drain.closing.wait()
        stopped = asyncio.create_task(server.stop(drain.seconds_left + EXIT_SECONDS / 4))
        await asyncio.wait([stopped], timeout=drain.seconds_left)
        drain.cut_off(servicer.in_flight, "gRPC calls")
        await stopped

    stopping = asyncio.create_task(stop())
    try:
        yield
    finally:
        drain.closing.set()
        await stopping


def max_message_bytes(settings: Settings) -> int:
    """Return the maximum size of a gRPC message: that of a body, or less if memory is small."""
    most = memory.share(settings.workers, memory.MESSAGES_SHARE)
    return min(settings.max_body_bytes, max(memory.LEAST_MESSAGE_BYTES, most))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _credentials(certificate: tls.Certificate) -> Any:
    """Return credentials that gRPC updates from the certificate at each handshake."""
    shown: list[object] = []

    def changed() -> Any:
        pair = certificate.pair
        if pair is None or pair in shown:
            return None
        shown[:] = [pair]
        return grpc.ssl_server_certificate_configuration([pair[::-1]])

    return grpc.dynamic_ssl_server_credentials(changed(), changed)


async def _start(settings: Settings, servicer: Servicer, certificate: tls.Certificate) -> Any:
    options = [
        # Each worker listens on the port; the kernel distributes the connections.
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_message_bytes(settings)),
        ("grpc.max_send_message_length", -1),
        # Only identity: gRPC would decompress messages before any check.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.header_timeout_seconds)),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.keep_alive_seconds)),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((servicer,))
    host = settings.host
    address = f"{f'[{host}]' if ':' in host else host}:{settings.grpc_port}"
    if certificate.pair is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, _credentials(certificate))
    await server.start()
    return server
