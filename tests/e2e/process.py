"""A real server process for tests: `logitserve serve` on a free port."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from unittest import mock

import httpx
from click.testing import CliRunner

from logitserve.cli.main import main
from logitserve_service.config.settings import PLATFORM_VARIABLES
from logitserve_service.server import main as server_main

START_SECONDS = 60
STOP_SECONDS = 30
REUSE_SECONDS = 0.5
"""How long a client reuses an idle connection: less than any server keeps it, as a request that is
sent just when the server closes the connection gets no response."""
_ANNOUNCEMENT = re.compile(r"serving .* on (https?://\S+:\d+|unix:\S+) ")


def command(*arguments: str) -> list[str]:
    """The command line of the console script, run by this interpreter."""
    return [sys.executable, "-m", "logitserve", *arguments]


def interruptible(command: list[str]) -> list[str]:
    """It heeds interrupts, also if the tests run in the background, where shells ignore them."""
    return ["env", "--default-signal=INT", *command]


def clean_environment(**extra: str) -> dict[str, str]:
    """This environment without settings of the service."""
    foreign = PLATFORM_VARIABLES
    kept = {k: v for k, v in os.environ.items() if k not in foreign and "LOGITSERVE" not in k}
    return {**kept, **extra}


@dataclass
class Server:
    """A running server and what it has logged so far."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)

    @cached_property
    def client(self) -> httpx.Client:
        """Closed when the server has ended."""
        limits = httpx.Limits(keepalive_expiry=REUSE_SECONDS)
        return httpx.Client(base_url=self.url, timeout=STOP_SECONDS, limits=limits)

    @cached_property
    def grpc_address(self) -> str:
        """Where gRPC is served; the response of a probe means that it is."""
        httpx.get(f"{self.url}/readyz", timeout=STOP_SECONDS).raise_for_status()
        (port,) = re.findall(r"serving gRPC on port (\d+)", "".join(self.log))
        return f"127.0.0.1:{port}"

    @property
    def is_ready(self) -> bool:
        """Whether a new connection is told so."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a bare connection."""
        host, port = self.url.partition("://")[2].split(":")
        return host, int(port)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running(
    *options: str, environment: dict[str, str] | None = None, wrapper: Sequence[str] = ()
) -> Iterator[Server]:
    """Start the server, wait until it says where it listens, stop it in the end.

    Args:
        options: of `logitserve serve`.
        environment: instead of this process's, cleaned of settings.
        wrapper: a command that the server is run by.
    """
    process = subprocess.Popen(
        [*wrapper, *command("serve", "--port", "0", *options)],
        env=environment or clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Server(process)
    announced: queue.Queue[str] = queue.Queue()

    def drain() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.log.append(line)
            if match := _ANNOUNCEMENT.search(line):
                announced.put(match[1])
        announced.put("")

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        server.url = announced.get(timeout=START_SECONDS)
        assert server.url, f"the server ended at its start: {server.log}"
        yield server
    finally:
        if "client" in vars(server):
            server.client.close()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command to its end: exit status, and all that it printed."""
    done = subprocess.run(
        command(*arguments),
        env=environment or clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def refused(*options: str, **environment: str) -> str:
    """The line in which `serve` refuses settings; they are read in this process."""
    with mock.patch.object(server_main, "serve", side_effect=AssertionError("not refused")):
        done = CliRunner().invoke(main, ["serve", *options], env=environment)
    assert done.exit_code == 1, done.output
    assert len(done.output.strip().splitlines()) == 1, (done.output, done.exception)
    assert done.output.startswith("Error: ")
    return done.output
