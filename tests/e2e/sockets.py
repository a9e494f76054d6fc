"""Bare connections: requests that no client library would send, or send so slowly."""

import socket
from collections.abc import Iterator
from typing import BinaryIO

from tests.e2e.process import Server
from tests.forms import Ask, Form

SECONDS = 20


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes, in whichever way."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def request(form: Form, ask: Ask, *, length: int | None = None) -> tuple[bytes, bytes]:
    """Head and body of a request, as they are sent; `length` is announced instead of the body's."""
    encoded = form.encode(ask.images)
    body = ask.body if isinstance(ask.body, bytes) else encoded.body
    fields = [f"{name}: {value}" for name, value in form.fields(ask, encoded)]
    length = len(body) if length is None else length
    line = f"{ask.method} {form.target(ask)} HTTP/1.1"
    head = "\r\n".join([line, "Host: x", *fields, f"Content-Length: {length}", "\r\n"])
    return head.encode(), body


def begun(server: Server, form: Form, ask: Ask) -> socket.socket:
    """A connection on which all of a request was sent but its end."""
    connection = connect(server)
    connection.sendall(b"".join(request(form, ask))[:-5])
    return connection


def read_response(answers: BinaryIO) -> tuple[int, bytes]:
    """Status and body of the next response on a connection."""
    status, length = int(answers.readline().split()[1]), 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b": ")
        if name.lower() == b"content-length":
            length = int(value)
    return status, answers.read(length)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
