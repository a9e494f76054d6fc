"""The service calls nobody: no thread of it asks the kernel for a connection."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx

from tests.e2e.conftest import Weights
from tests.e2e.process import clean_environment, running
from tests.tiny_models import png, random_picture

STRACE = shutil.which("strace") or "strace is missing: run `make programs`"
OUTBOUND = re.compile(r"(?:connect|sendto)\(.*(?:sin_port|sin6_port)=")


def test_no_connection_is_asked_for(models: tuple[Path, Weights], tmp_path: Path) -> None:
    traced = tmp_path / "trace"
    # Without the variable that the code sets for itself, so that the code has to do it.
    environment = clean_environment()
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    # A detached tracer: signals go to the server, and its output ends when the trace is whole.
    tracer = (
        STRACE,
        "--daemonize",
        "--follow-forks",
        "--trace=connect,sendto",
        "--output",
        str(traced),
    )
    with running("--models", str(models[0]), environment=environment, wrapper=tracer) as server:
        for seed in range(20):
            httpx.post(
                f"{server.url}/predict",
                content=png(random_picture(seed)),
                headers={"content-type": "image/png"},
            ).raise_for_status()
        httpx.get(f"{server.url}/docs").raise_for_status()
    lines = traced.read_text().splitlines()
    assert any("exited with" in line for line in lines), "the trace is not whole"
    assert [line for line in lines if OUTBOUND.search(line)] == []


def test_the_trace_would_show_a_connection(tmp_path: Path) -> None:
    traced = tmp_path / "trace"
    program = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    subprocess.run(
        [
            STRACE,
            "--follow-forks",
            "--trace=connect",
            "--output",
            traced,
            "python3",
            "-c",
            program,
        ],
        check=True,
    )
    assert any(OUTBOUND.search(line) for line in traced.read_text().splitlines())
