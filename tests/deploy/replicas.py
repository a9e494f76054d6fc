"""Three replicas with addresses of their own on a network of Docker, and a proxy before them."""

import csv
import io
import ipaddress
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from tests.deploy.engine import ROOT, docker
from tests.deploy.free_ports import free_ports
from tests.deploy.waiting import answers, wait_until

NETWORK = "logitserve-test-replicas"
NAMES = ("logitserve-test-a", "logitserve-test-b", "logitserve-test-c")
EXAMPLES = ("10.0.0.11:8000", "10.0.0.12:8000", "10.0.0.13:8000")
"""The hosts that the shipped configurations name."""
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@dataclass
class Replica:
    """One: its address stays, whatever container has it."""

    name: str
    ip: str
    models: Path

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.ip}:8000"

    def start(self, image: str) -> None:
        """Start a container of an image, and wait until it is ready."""
        options = [f"--name={self.name}", f"--network={NETWORK}", f"--ip={self.ip}", *HARDENED]
        settings = ["--env=LOGITSERVE_LINGER_SECONDS=3"]
        volume = f"--volume={self.models}:/models:ro"
        docker("run", "--detach", *options, *settings, volume, image)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """By its probe, past the proxy."""
        wait_until(lambda: answers(f"http://{self.address}/readyz"), what=f"{self.name} is ready")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        docker("stop", "--time=30", self.name)
        state = json.loads(docker("inspect", "--format={{json .State}}", self.name))
        docker("rm", self.name)
        return int(state["ExitCode"])

    def kill(self) -> None:
        """SIGKILL."""
        docker("kill", self.name)
        docker("rm", self.name)

    def cut(self) -> None:
        """Take its network away."""
        docker("network", "disconnect", NETWORK, self.name)

    def mend(self) -> None:
        """Give it back."""
        docker("network", "connect", f"--ip={self.ip}", NETWORK, self.name)

    def publish(self, version: str) -> None:
        """Give it a new version of its model: the same network, so that answers stay right."""
        draft = self.models / "digits/.staging"
        shutil.copytree(self.models / "digits/1", draft)
        draft.rename(self.models / "digits" / version)
        wait_until(lambda: self.version() == version, what=f"{self.name} serves {version}")

    def version(self) -> str:
        """Of the model that answers."""
        return str(httpx.get(f"http://{self.address}/models/digits").json()["version"])


def another_image(image: str) -> str:
    """The same service as another image."""
    container = docker("create", image).strip()
    try:
        return docker("commit", "--change=LABEL release=another", container).strip()
    finally:
        docker("rm", container)


def remove() -> None:
    """Remove the replicas and their network, where they are; a run that was killed leaves them."""
    for name in NAMES:
        docker("rm", "--force", name, check=False)
    docker("network", "rm", NETWORK, check=False)


@contextmanager
def three_replicas(image: str, folder: Path) -> Iterator[list[Replica]]:
    """Ready ones, each with a folder of models of its own below `folder`."""
    remove()
    docker("network", "create", NETWORK)
    subnet = docker("network", "inspect", "--format={{(index .IPAM.Config 0).Subnet}}", NETWORK)
    docker("network", "rm", NETWORK)
    docker("network", "create", f"--subnet={subnet.strip()}", NETWORK)
    hosts = list(ipaddress.ip_network(subnet.strip()).hosts())
    replicas = [
        Replica(name, str(hosts[number]), folder / name) for number, name in enumerate(NAMES, 10)
    ]
    try:
        for replica in replicas:
            shutil.copytree(ROOT / "models/digits", replica.models / "digits")
        for replica in replicas:
            replica.start(image)
        yield replicas
    finally:
        remove()


class Proxy(Protocol):
    """What stands before replicas."""

    url: str

    def asks(self, replica: Replica) -> bool:
        """Whether a replica gets its share of the requests now."""


@dataclass
class Nginx:
    """It tells of its choices in its log."""

    url: str
    log: Path
    _read: int = 0

    def asks(self, replica: Replica) -> bool:
        """Whether at least every tenth of the next requests goes there first.

        It is asked under load; nginx tries a resting host again with a single request.
        """
        read = len(self._first_tries())
        wait_until(lambda: len(self._first_tries()) >= read + 30, what="30 requests more")
        recent = self._first_tries()[read:]
        return recent.count(replica.address) >= len(recent) / 10

    def _first_tries(self) -> list[str]:
        return [line.split(", ")[0] for line in self.log.read_text().splitlines()]


@dataclass
class HAProxy:
    """It tells of its servers by its socket."""

    url: str
    path: Path

    def asks(self, replica: Replica) -> bool:
        """Whether it counts as up."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.path))
            asked.sendall(b"show stat\n")
            text = "".join(iter(lambda: asked.recv(65536).decode(), ""))
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        (row,) = [found for found in rows if found["addr"] == replica.address]
        return row["status"].startswith("UP")


def _filled_in(text: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    return text


@contextmanager
def _process(*command: str, url: str) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: answers(f"{url}/models"), what=f"{command[0]} runs")
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def nginx(replicas: list[Replica], folder: Path) -> Iterator[Nginx]:
    """Debian's, with `deploy/nginx-replicas.conf`, as a file of its `conf.d`."""
    (port,) = free_ports(1)
    addresses = [replica.address for replica in replicas]
    text = (ROOT / "deploy/nginx-replicas.conf").read_text()
    changes = {"listen 80;": f"listen 127.0.0.1:{port};"}
    text = _filled_in(text, changes | dict(zip(EXAMPLES, addresses, strict=True)))
    (folder / "replicas.conf").write_text(text)
    log = folder / "access.log"
    (folder / "nginx.conf").write_text(
        f"worker_processes 2; pid {folder}/nginx.pid; daemon off; events {{}}\n"
        f"http {{ log_format tried '$upstream_addr'; access_log {log} tried;\n"
        f"include {folder}/replicas.conf; }}\n"
    )
    url = f"http://127.0.0.1:{port}"
    configuration = ["-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with _process("nginx", *configuration, url=url):
        yield Nginx(url, log)


@contextmanager
def haproxy(replicas: list[Replica], folder: Path) -> Iterator[HAProxy]:
    """Debian's, with `deploy/haproxy.cfg`."""
    (port,) = free_ports(1)
    addresses = [replica.address for replica in replicas]
    text = (ROOT / "deploy/haproxy.cfg").read_text()
    admin = folder / "admin.sock"
    changes = {"bind :80": f"bind 127.0.0.1:{port}", "/run/haproxy/admin.sock": str(admin)}
    text = _filled_in(text, changes | dict(zip(EXAMPLES, addresses, strict=True)))
    (folder / "haproxy.cfg").write_text(text)
    url = f"http://127.0.0.1:{port}"
    with _process("haproxy", "-f", str(folder / "haproxy.cfg"), url=url):
        yield HAProxy(url, admin)


Starter = Callable[[list[Replica], Path], AbstractContextManager[Proxy]]
PROXIES: dict[str, Starter] = {"nginx": nginx, "haproxy": haproxy}
