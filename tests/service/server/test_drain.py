"""A listener that is about to close, on real sockets."""

import socket
from collections.abc import Iterator

import pytest

from logitserve_service.server.drain import refuse_handshakes


@pytest.fixture(params=["127.0.0.1", "::1", "IPv4 on an IPv6 socket"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    both = request.param.startswith("IPv4")
    family = socket.AF_INET if request.param == "127.0.0.1" else socket.AF_INET6
    host = "::" if both else request.param
    with socket.create_server((host, 0), family=family, dualstack_ipv6=both) as made:
        port = made.getsockname()[1]
        yield made, ("127.0.0.1" if both else host, port)


def test_what_the_kernel_has_taken_is_heard_and_nobody_else_begins(
    listener: tuple[socket.socket, tuple[str, int]],
) -> None:
    listening, address = listener
    with socket.create_connection(address) as taken:
        taken.sendall(b"sent before")
        refuse_handshakes(listening)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        taken.sendall(b", and after")
        accepted, _ = listening.accept()
        with accepted:
            listening.close()
            assert accepted.recv(22, socket.MSG_WAITALL) == b"sent before, and after"
            accepted.sendall(b"answer")
            assert taken.recv(6, socket.MSG_WAITALL) == b"answer"


def test_where_it_cannot_be_done_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    closed.close()
    refuse_handshakes(closed)
    assert "may be reset" in caplog.text
