"""What is watched while inputs are sent: memory, probes, connections and the log of a server."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.e2e.process import Server

MIB = 2**20
PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PROBE_PAUSE = 0.01
MOST_SECONDS = 10
"""By the clock, however busy the machine is."""


class Memory:
    """Resident bytes of a server and its workers."""

    def __init__(self, server: Server) -> None:
        process = psutil.Process(server.process.pid)
        self._folders = [
            Path(f"/proc/{each.pid}") for each in (process, *process.children(recursive=True))
        ]

    def resident(self) -> int:
        return self._sum("VmRSS")

    def peak(self) -> int:
        """The most since `begin`."""
        return self._sum("VmHWM")

    def begin(self) -> None:
        for folder in self._folders:
            (folder / "clear_refs").write_text("5")

    def _sum(self, field: str) -> int:
        return sum(
            int(line.split()[1]) * 1024
            for folder in self._folders
            for line in (folder / "status").read_text().splitlines()
            if line.startswith(f"{field}:")
        )


class Probes:
    """Asks a probe again and again over one connection.

    What a probe took is counted in CPU time of the event loops of the server and its workers, or by
    the clock where that is less: on a busy machine, others make it late too.
    """

    def __init__(self, server: Server) -> None:
        self._address = server.address
        supervisor = psutil.Process(server.process.pid)
        self._processes = [
            Path(f"/proc/{each.pid}") for each in (supervisor, *supervisor.children(recursive=True))
        ]
        self._stopping = threading.Event()
        self._answered_one = threading.Event()
        self._longest = 0.0

    @contextmanager
    def asking(self) -> Iterator["Probes"]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()

    def begin(self) -> None:
        self._longest = 0.0

    def wait(self) -> None:
        """For the probe that is being answered, and one more."""
        for _ in range(2):
            self._answered_one.clear()
            self._answered_one.wait()

    @property
    def longest(self) -> float:
        """Seconds of the slowest answer since `begin`."""
        return self._longest

    def _ask(self) -> None:
        connection = self._connect()
        while not self._stopping.wait(PROBE_PAUSE):
            begun, used = time.perf_counter(), self._used()
            while not self._answered(connection):
                # This process was too busy to keep it from becoming idle; the clock goes on.
                connection.close()
                connection = self._connect()
            took = time.perf_counter() - begun
            if took < MOST_SECONDS:
                took = min(took, self._used() - used)
            self._longest = max(self._longest, took)
            self._answered_one.set()
        connection.close()

    def _used(self) -> float:
        return sum(_loop_seconds(process) for process in self._processes)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=60)

    @staticmethod
    def _answered(connection: socket.socket) -> bool:
        try:
            connection.sendall(PROBE)
            return connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        except ConnectionError:
            return False


def _loop_seconds(process: Path) -> float:
    """CPU time of the main thread of a process, which runs its event loop."""
    fields = (process / "task" / process.name / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime of proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


class Lingering:
    """Connections that clients leave open: the server has to end each of them."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._process = psutil.Process(server.process.pid)
        self._seconds = seconds
        self._left: list[tuple[float, str, socket.socket]] = []

    def add(self, name: str, connection: socket.socket) -> None:
        self._left.append((time.monotonic() + self._seconds, name, connection))

    def overdue(self) -> list[str]:
        """Names of those that the server holds after their time; each is closed then."""
        now = time.monotonic()
        due = [each for each in self._left if each[0] < now]
        self._left = [each for each in self._left if each[0] >= now]
        held = self._held() if due else set()
        names = [name for _, name, connection in due if connection.getsockname()[1] in held]
        for _, _, connection in due:
            connection.close()
        return names

    def finish(self) -> list[str]:
        """Wait for all of them, but no longer than they have time."""
        while self._left and self._held() & {each[2].getsockname()[1] for each in self._left}:
            if time.monotonic() > max(each[0] for each in self._left):
                break
            time.sleep(0.1)
        names = []
        held = self._held()
        for _, name, connection in self._left:
            if connection.getsockname()[1] in held:
                names.append(name)
            connection.close()
        self._left = []
        return names

    def _held(self) -> set[int]:
        """Ports of the clients of all connections that the server's processes hold."""
        processes = (self._process, *self._process.children(recursive=True))
        return {
            found.raddr.port
            for process in processes
            for found in process.net_connections(kind="tcp")
            if found.raddr
        }
