"""Stops, kills and stalls under load, many times: what docs/operations.md tells of.

python -m tests.e2e.endurance stops --rounds 10
python -m tests.e2e.endurance kills --rounds 10
python -m tests.e2e.endurance stalls --clients 400
"""

import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx
import numpy as np
import numpy.typing as npt
import psutil

from tests import tiny_models
from tests.e2e.busy_clients import BusyClients
from tests.e2e.process import Server, running

PROBE_SECONDS = 0.02
STALL_SECONDS = 60

Matrix = npt.NDArray[np.float32]


def stops(folder: str, matrix: Matrix, rounds: int) -> bool:
    """SIGTERM under 8 busy clients; whether nothing was lost."""
    good = True
    for workers in ("1", "2"):
        lost, answered, statuses, seconds = 0, 0, set(), []
        for _ in range(rounds):
            with running("--models", folder, "--workers", workers) as server:
                clients = BusyClients(server.url, matrix, clients=8)
                with clients.asking() as tally:
                    clients.wait_for(answered=200)
                    begun = time.monotonic()
                    statuses.add(server.stop())
                    seconds.append(time.monotonic() - begun)
            lost += len(tally.lost)
            answered += tally.answered
        click.echo(
            f"{workers} workers, {rounds} stops: {lost} of {answered + lost} requests lost, "
            f"exit {sorted(statuses)}, {max(seconds):.2f} s at most"
        )
        good = good and not lost and statuses == {0}
    return good


class Prober:
    """Asks /readyz on a new connection, again and again, and knows the longest time without."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self.longest = 0.0

    def __call__(self) -> None:
        """Ask until `done`."""
        ready = time.monotonic()
        while not self._done.is_set():
            try:
                good = httpx.get(f"{self._url}/readyz", timeout=0.5).status_code == 200
            except httpx.HTTPError:
                good = False
            if good:
                self.longest = max(self.longest, time.monotonic() - ready)
                ready = time.monotonic()
            time.sleep(PROBE_SECONDS)

    def done(self) -> None:
        """Let it end."""
        self._done.set()


def kills(folder: str, matrix: Matrix, rounds: int) -> bool:
    """SIGKILL of each of 2 workers in turn; whether the service was never unready for 2 s."""
    with running("--models", folder, "--workers", "2") as server:
        parent = psutil.Process(server.process.pid)
        prober = Prober(server.url)
        probing = threading.Thread(target=prober)
        clients = BusyClients(server.url, matrix, clients=4)
        replaced = []
        with clients.asking() as tally:
            probing.start()
            for turn in range(rounds):
                clients.wait_for(answered=200)
                victims = parent.children()
                begun = time.monotonic()
                victims[turn % 2].kill()
                replaced.append(_until_replaced(parent, victims[turn % 2], begun))
            clients.wait_for(answered=200)
        prober.done()
        probing.join()
    click.echo(
        f"{rounds} kills: {len(tally.lost)} of {tally.answered} requests lost, replaced within "
        f"{max(replaced):.2f} s, never unready for longer than {prober.longest:.2f} s"
    )
    return prober.longest < 2 and len(tally.lost) <= 4 * rounds


def _until_replaced(parent: psutil.Process, victim: psutil.Process, begun: float) -> float:
    """Seconds until another worker has loaded its models: two threads or more, and idle."""
    while True:
        others = [child for child in parent.children() if child.pid != victim.pid]
        if len(others) == 2 and all(other.num_threads() > 1 for other in others):
            return time.monotonic() - begun
        time.sleep(0.005)


def stalls(folder: str, matrix: Matrix, count: int) -> bool:
    """Clients that send half a head beside 4 busy ones; whether the busy ones hardly notice."""
    with running("--models", folder) as server:
        clients = BusyClients(server.url, matrix, clients=4)
        with clients.asking() as tally:
            clients.wait_for(answered=2000)
            alone = _p99(tally.seconds)
            before = len(tally.seconds)
            gone = _stalled(server, count)
            beside = _p99(tally.seconds[before:])
    click.echo(
        f"{count} stalled clients: gone within {gone:.1f} s, p99 of the others "
        f"{beside * 1000:.1f} ms instead of {alone * 1000:.1f} ms ({beside / alone:.1f}x), "
        f"{len(tally.lost)} requests lost"
    )
    return gone < 35 and beside < 5 * alone and not tally.lost


def _stalled(server: Server, count: int) -> float:
    """Stall, and wait until all are cut off; seconds until the last was."""
    host, port = urlsplit(server.url).netloc.split(":")
    waiting = selectors.DefaultSelector()
    begun = time.monotonic()
    for _ in range(count):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-")
        waiting.register(connection, selectors.EVENT_READ)
    while waiting.get_map() and time.monotonic() - begun < STALL_SECONDS:
        for key, _ in waiting.select(timeout=1):
            stalled = key.fileobj
            assert isinstance(stalled, socket.socket)
            if not stalled.recv(65536):
                waiting.unregister(stalled)
                stalled.close()
    return time.monotonic() - begun


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


@click.command(help=__doc__)
@click.argument("what", type=click.Choice(["stops", "kills", "stalls"]))
@click.option("--rounds", default=10)
@click.option("--clients", default=400)
def main(what: str, rounds: int, clients: int) -> None:
    """Run one of them; the exit status says whether the goal was met."""
    with tempfile.TemporaryDirectory() as folder:
        matrix = tiny_models.publish(Path(folder), name="digits")
        if what == "stops":
            good = stops(folder, matrix, rounds)
        elif what == "kills":
            good = kills(folder, matrix, rounds)
        else:
            good = stalls(folder, matrix, clients)
    sys.exit(not good)


if __name__ == "__main__":
    main()
