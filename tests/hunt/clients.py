"""Clients that send what no library would, and say what came back and how much was sent."""

import contextlib
import select
import socket
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc

ANSWER_SECONDS = 30
STANDSTILL_SECONDS = 0.5
"""A client that reads nothing sends until the server has taken nothing for so long."""
PIECE = 2**18


@dataclass(frozen=True, slots=True)
class Http:
    """Bytes for one connection."""

    name: str
    wire: Iterable[bytes]
    """May be iterated again and again."""
    answers: int = 1
    """Responses that the client waits for, unless the connection closes first; 0: it reads none."""
    decodes: bool = False
    """Whether images are decoded, which have a budget of their own."""
    finish: bool = False
    """Whether the client closes its side after the last byte."""
    port: str = "http"


@dataclass(frozen=True, slots=True)
class Grpc:
    """One message."""

    name: str
    message: bytes
    method: str = "ModelInfer"
    gzip: bool = False
    decodes: bool = False


Case = Http | Grpc


@dataclass(slots=True)
class Outcome:
    """What became of one sending."""

    sent: int = 0
    statuses: list[str] = field(default_factory=list)
    connection: socket.socket | None = None
    """Still open on this side."""


def send(case: Case, addresses: dict[str, tuple[str, int]]) -> Outcome:
    if isinstance(case, Grpc):
        return _call(case, addresses["grpc"])
    outcome = Outcome(connection=socket.create_connection(addresses[case.port], timeout=10))
    with contextlib.suppress(ConnectionError):  # it may close at any time
        _exchange(case, outcome)
    return outcome


def _exchange(case: Http, outcome: Outcome) -> None:
    """Write as long as the server takes it, and read what it answers meanwhile."""
    connection = outcome.connection
    assert connection is not None
    connection.settimeout(0)
    ending = time.monotonic() + ANSWER_SECONDS
    received = bytearray()
    pieces = iter(case.wire)
    unsent: memoryview | None = memoryview(b"")
    while time.monotonic() < ending:
        if unsent is not None and not unsent:
            piece = next(pieces, None)
            unsent = None if piece is None else memoryview(piece)
            if unsent is None and case.finish:
                connection.shutdown(socket.SHUT_WR)
        writing = [] if unsent is None else [connection]
        reading = [connection] if case.answers else []
        readable, writable, _ = select.select(reading, writing, [], STANDSTILL_SECONDS)
        if not case.answers and not writable:
            return
        if readable:
            part = connection.recv(PIECE)
            received += part
            outcome.statuses += _responses(received)
            if not part or len(outcome.statuses) >= case.answers:
                return
        if writable and unsent is not None:
            count = connection.send(unsent[:PIECE])
            outcome.sent += count
            unsent = unsent[count:]


def _responses(received: bytearray) -> list[str]:
    """Take the whole responses from the front of what was received; their statuses."""
    statuses = []
    while (end := received.find(b"\r\n\r\n")) >= 0:
        head = received[:end].lower()
        status = head.split(b" ", 2)[1].decode() if head.startswith(b"http/1.1 ") else "not HTTP"
        _, there, after = head.partition(b"content-length: ")
        size = end + 4 + (int(after.split(b"\r\n", 1)[0]) if there else 0)
        if len(received) < size:
            break
        del received[:size]
        if status != "100":
            statuses.append(status)
    return statuses


CODES = {"INTERNAL": "500", "UNKNOWN": "500"}


def _call(case: Grpc, address: tuple[str, int]) -> Outcome:
    # A connection of its own: others would be shared.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    compression = grpc.Compression.Gzip if case.gzip else None
    outcome = Outcome(sent=len(zlib.compress(case.message)) if case.gzip else len(case.message))
    host, port = address
    with grpc.insecure_channel(f"{host}:{port}", options, compression) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{case.method}")
        try:
            call(case.message, timeout=ANSWER_SECONDS)
            outcome.statuses.append("OK")
        except grpc.RpcError as error:
            outcome.statuses.append(CODES.get(error.code().name, error.code().name))
    return outcome
