"""Servers started on one core, and load from another; the two never share a core."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
SERVER_CORES = "0"
LOAD_CORES = "1"
START_SECONDS = 180
STOP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    numbered: bool = False
    """Whether it has an `X-Request-ID`, another one each time it is sent."""

    def record(self) -> bytes:
        """The request as `load.lua` reads it."""
        fields = {"Host": "localhost", "Content-Length": str(len(self.body)), **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        head = "\r\n".join(lines).encode() + (b"\r\n" if self.numbered else b"\r\n\r\n")
        return b"%d %d %d\n" % (len(head), len(self.body), self.numbered) + head + self.body


def write(file: Path, requests: Sequence[Request]) -> Path:
    """The requests in a file that `put_load` sends."""
    file.write_bytes(b"".join(request.record() for request in requests))
    return file


def send(port: int, request: Request, timeout: float = 10) -> tuple[dict[str, str], bytes]:
    """Header fields, their names in lower case, and body of the answer.

    Raises:
        RuntimeError: the status is not 200.
    """
    headers = dict(request.headers) | ({"X-Request-ID": "check"} if request.numbered else {})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout)) as connection:
        connection.request("POST", request.path, request.body, headers)
        response = connection.getresponse()
        body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{request.path}: {response.status} {body[:500]!r}")
    return {name.lower(): value for name, value in response.getheaders()}, body


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What one load gave."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    generator: float
    """Share of its core that the load generator used."""
    server: float
    """CPU seconds of the server and its children."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for a request; what else runs on its core is not in it."""
        return self.server / self.requests * 1e6


def cpu_seconds(process: int) -> float:
    """CPU time of the process and its children."""
    root = psutil.Process(process)
    times = [member.cpu_times() for member in (root, *root.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    request: Request,
    *,
    environment: Mapping[str, str],
    folder: Path = HERE.parent,
    cores: str = SERVER_CORES,
) -> Iterator[Running]:
    """Start a server on its cores, wait until it answers, and end it with all its children."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            if not answers(process, port, request):
                errors.seek(0)
                raise RuntimeError(f"{command[0]} does not answer: {errors.read()[-300:].decode()}")
            yield Running(port, process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(process: subprocess.Popen[bytes], port: int, request: Request) -> bool:
    """Send the request until the answer is a 200; False if the server ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
            send(port, request)
            return True
        time.sleep(0.1)
    return False


def wrk_command(url: str, *, connections: int, seconds: int, cores: str) -> list[str]:
    """The command of `wrk`, which reads its requests from the file that `REQUESTS` names."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    return [
        *("taskset", "-c", cores, program, "--threads", "1", "--timeout", "30s"),
        *("--connections", str(connections), "--duration", f"{seconds}s"),
        *("--script", str(HERE / "load.lua"), url),
    ]


def wrk(
    url: str, requests: Path, *, connections: int, seconds: int, cores: str = LOAD_CORES
) -> dict[str, Any]:
    """Send the requests in turn, again and again, over keep-alive connections.

    Raises:
        RuntimeError: an answer was not 2xx or 3xx, or a connection failed.
    """
    done = subprocess.run(
        wrk_command(url, connections=connections, seconds=seconds, cores=cores),
        env={**os.environ, "REQUESTS": str(requests)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if found["errors"] or not found["requests"]:
        raise RuntimeError(f"{url}: {found}\n{done.stdout}")
    return found


def put_load(
    server: Running,
    requests: Path,
    *,
    connections: int,
    seconds: int,
    cores: str = LOAD_CORES,
) -> Measured:
    """Send the requests in turn; see `wrk`."""
    before, server_before = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_seconds(server.pid)
    url = f"http://127.0.0.1:{server.port}"
    found = wrk(url, requests, connections=connections, seconds=seconds, cores=cores)
    after, server_after = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_seconds(server.pid)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(
        requests=found["requests"],
        seconds=found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        generator=used / found["seconds"],
        server=server_after - server_before,
    )
