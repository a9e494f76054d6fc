"""Nodes of a Ray cluster on this machine: `ray start` on loopback, each with one CPU."""

import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.e2e.process import clean_environment

RAY = str(Path(sys.executable).with_name("ray"))
QUIET = ("--disable-usage-stats", "--block", "--num-cpus", "1")
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
"""Loopback too; Ray puts the machine's outward address in the place of 127.0.0.1."""
TOKEN = secrets.token_hex(32)


def environment() -> dict[str, str]:
    """What nodes and those who join them need: a token of this cluster's own."""
    return clean_environment(
        RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN
    )


class Node:
    """A node that is up."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [RAY, "start", *QUIET, *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "block forever" in line:  # the last that it says, once the node is up
                return
        raise AssertionError(self.said)

    def kill(self) -> None:
        """End all of it at once, as a machine that loses its power does."""
        if self.process.poll() is None:
            whole = psutil.Process(self.process.pid)
            for process in [whole, *whole.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def head() -> Iterator[str]:
    """The first node of a cluster; its address."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        node = Node(
            "--head", "--port", "0", "--node-ip-address", HEAD,

            "--include-dashboard", "false", "--temp-dir", folder,
            "--object-store-memory", str(128 * 2**20),
        )  # fmt: skip
        try:
            (address,) = set(re.findall(r"--address='([0-9.:]+)'", node.said))
            yield address
        finally:
            node.kill()


@contextmanager
def another(address: str) -> Iterator[Node]:
    """A node that joins a cluster."""
    node = Node(
        "--address", address, "--node-ip-address", OTHER, "--object-store-memory", str(128 * 2**20)
    )
    try:
        yield node
    finally:
        node.kill()
