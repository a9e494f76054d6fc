"""A listener that is about to close, on real sockets."""

import socket
from collections.abc import Iterator

import pytest

from service.drain import hear_on, refuse_handshakes


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
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        taken.sendall(b", and after")
        accepted, _ = listening.accept()
        with accepted:
            hear_on(accepted)
            listening.close()
            assert accepted.recv(11, socket.MSG_WAITALL) == b"sent before"
            assert accepted.recv(11, socket.MSG_WAITALL) == b", and after"
            accepted.sendall(b"answer")
            assert taken.recv(6, socket.MSG_WAITALL) == b"answer"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_a_connection_that_was_made_deaf_hears_again(
    listener: tuple[socket.socket, tuple[str, int]],
) -> None:
    listening, address = listener
    with socket.create_connection(address) as client:
        accepted, _ = listening.accept()
        with accepted:
            refuse_handshakes(accepted)  # as one inherits it that is made at that moment
            client.sendall(b"request")
            accepted.settimeout(0.1)
            with pytest.raises(TimeoutError):
                accepted.recv(7)
            hear_on(accepted)
            accepted.settimeout(10)
            assert accepted.recv(7, socket.MSG_WAITALL) == b"request"


def test_where_the_kernel_lacks_it_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first, second = socket.socketpair()  # of Unix, where nothing hops
    with first, second:
        refuse_handshakes(first)
    assert "may be reset" in caplog.text
