"""Ports that nobody listens on now."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """As many different ones of the loopback address."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]
