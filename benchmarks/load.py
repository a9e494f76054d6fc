"""Servers started on one core, and load from another; the two never share a core."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SERVER_CORES = "0"
LOAD_CORES = "1"
START_SECONDS = 180
STOP_SECONDS = 20
WARM_UP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of a request, in a file, with its content type."""

    file: Path
    content_type: str
    header_length: int | None = None
    """Bytes of JSON before binary tensors, where the protocol has both."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one load gave."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str],
    url: str,
    payload: Payload,
    *,
    environment: Mapping[str, str],
    folder: Path = HERE,
    cores: str = SERVER_CORES,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server on its cores, wait until it answers, and end it with all its children."""
    process = subprocess.Popen(
        ["taskset", "-c", cores, *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_ready(process, url, payload)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, payload: Payload) -> None:
    """Send the request until it is answered with 200."""
    deadline = time.monotonic() + START_SECONDS
    headers = {"Content-Type": payload.content_type}
    if payload.header_length is not None:
        headers["Inference-Header-Content-Length"] = str(payload.header_length)
    request = urllib.request.Request(url, payload.file.read_bytes(), headers)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {START_SECONDS} s")


def put_load(
    url: str, payload: Payload, *, connections: int, seconds: float, cores: str = LOAD_CORES
) -> Measured:
    """Send one request again and again over keep-alive connections.

    Raises:
        RuntimeError: an answer was not 2xx or 3xx, or a connection failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    environment = {"BODY": str(payload.file), "CONTENT_TYPE": payload.content_type}
    if payload.header_length is not None:
        environment["HEADER_LENGTH"] = str(payload.header_length)
    done = subprocess.run(
        [
            *("taskset", "-c", cores, wrk, "--threads", "1", "--timeout", "30s"),
            *("--connections", str(connections), "--duration", f"{seconds:g}s"),
            *("--script", str(HERE / "load.lua"), url),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    measured = Measured(**json.loads(done.stdout.strip().splitlines()[-1]))
    if measured.errors or not measured.requests:
        raise RuntimeError(f"{url}: {measured}\n{done.stdout}")
    return measured
