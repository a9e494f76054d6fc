"""The processes that compute explanations: forked when a worker requests one.

The supervisor forks them because a worker has threads, which a fork would lose.
"""

import gc
import logging
import signal
import socket
from collections.abc import Container
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

from logitserve_service.execution import explainer
from logitserve_service.execution.explainer import StartRequests
from logitserve_service.server.children import STOPS, forked

OOM_SCORE = 200
"""Twice that of a worker: if memory runs out, the kernel kills such a process first."""

Waited = Connection | socket.socket | int
"""An argument of `multiprocessing.connection.wait`."""

logger = logging.getLogger("logitserve.supervision")


class Explainers:
    """The running processes. Used by the supervisor."""

    def __init__(self, requests: StartRequests, listener: socket.socket) -> None:
        self._requests = requests
        self._listener = listener
        self._processes: list[ForkProcess] = []

    @property
    def waited(self) -> list[Waited]:
        """What is ready when `attend` has something to do; for `connection.wait`."""
        return [self._requests.fileno(), *(process.sentinel for process in self._processes)]

    def attend(self, ready: Container[object]) -> bool:
        """Start a requested process, and remove those that have exited.

        Returns:
            whether one was killed (SIGKILL).
        """
        ended = [process for process in self._processes if process.sentinel in ready]
        for process in ended:
            process.join()
            self._processes.remove(process)
            if process.exitcode:
                text = "process %d, which computes explanations, has exited with status %d"
                logger.error(text, process.pid, process.exitcode)
        if self._requests.fileno() in ready:
            with self._requests.receive() as connection:
                run = partial(_run, connection, self._requests, self._listener)
                self._processes.append(forked(run, OOM_SCORE))
        return any(process.exitcode == -signal.SIGKILL for process in ended)

    def close(self) -> None:
        """Start no more processes: requests fail from now on."""
        self._requests.close_receiving()

    def stop(self) -> None:
        """Kill the processes; called once no worker needs them."""
        for process in self._processes:
            process.kill()
            process.join()


def _run(connection: Connection, requests: StartRequests, listener: socket.socket) -> None:
    requests.close_receiving()
    listener.close()
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)  # its worker may need it until it has answered
    gc.enable()
    explainer.run(connection)
