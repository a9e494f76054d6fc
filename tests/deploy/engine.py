"""A Docker engine, started where none runs, and a base image, made where none can be had."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.deploy.waiting import wait_until

ROOT = Path(__file__).parents[2]
LOCAL_BASE = "logitserve-test-base:bookworm"
BUILD_SECONDS = 600


class NoEngineError(Exception):
    """No container can be run here; says why."""


def docker(*arguments: str, check: bool = True, seconds: float = 120) -> str:
    """Run a command of the Docker client; what it printed."""
    done = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stdout}")
    return done.stdout if done.returncode == 0 else ""


def inspected(name: str) -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    (found,) = json.loads(docker("inspect", name))
    return dict(found)


def _runs() -> bool:
    return bool(docker("version", "--format", "{{.Server.Version}}", check=False))


@contextmanager
def running_engine(log: Path) -> Iterator[None]:
    """The engine that runs, or one that is started for the block.

    Args:
        log: file for what the started one says.

    Raises:
        NoEngineError: none runs, and none can be started.
    """
    for program in ("docker", "dockerd"):
        if not shutil.which(program):
            raise NoEngineError(f"{program} is not installed")
    if _runs():
        yield
        return
    if os.getuid():
        raise NoEngineError("no engine runs, and starting one takes root")
    with log.open("w") as opened:
        engine = subprocess.Popen(["dockerd"], stdout=opened, stderr=subprocess.STDOUT)
    try:
        try:
            wait_until(lambda: _runs() or engine.poll() is not None, seconds=60, what="engine")
        except TimeoutError as error:
            raise NoEngineError(f"dockerd does not answer: {log.read_text()[-1000:]}") from error
        if engine.poll() is not None:
            raise NoEngineError(f"dockerd ended at its start: {log.read_text()[-1000:]}")
        yield
    finally:
        engine.terminate()
        engine.wait(60)


def named_base() -> str:
    """The base image that the Dockerfile names."""
    text = (ROOT / "Dockerfile").read_text()
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert found
    return found[1]


def base_image() -> str:
    """The image that the Dockerfile names, where it can be had; else one of Debian's packages."""
    if given := os.environ.get("PYTHON_IMAGE"):
        return given
    named = named_base()
    here = docker("image", "inspect", named, check=False)
    if here or docker("pull", named, check=False, seconds=BUILD_SECONDS):
        return named
    if not docker("image", "inspect", LOCAL_BASE, check=False):
        subprocess.run([ROOT / "scripts/local-base-image", LOCAL_BASE], check=True, timeout=900)
    return LOCAL_BASE


def compose_command() -> list[str]:
    """Compose v2 where it is, else docker-compose.

    Raises:
        NoEngineError: neither is installed.
    """
    if docker("compose", "version", check=False):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise NoEngineError("neither docker compose nor docker-compose is installed")


class Compose:
    """A project of compose that is of these tests alone."""

    def __init__(self, environment: Mapping[str, str], *more_files: str) -> None:
        """Name it.

        Args:
            environment: variables of `docker-compose.yml`.
            more_files: below the repository, on top of `docker-compose.yml`.
        """
        self.environment = {**os.environ, "COMPOSE_PROJECT_NAME": "logitserve-test", **environment}
        files = [f"--file={ROOT / file}" for file in ("docker-compose.yml", *more_files)]
        self._command = [*compose_command(), *files]

    def run(self, *arguments: str, seconds: float = BUILD_SECONDS) -> str:
        """Run a command of compose; what it printed."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"compose {' '.join(arguments)}: {done.stdout[-4000:]}")
        return done.stdout

    def container(self, service: str = "service") -> str:
        """The id of the container of a service, running or not."""
        return self.run("ps", "--quiet", "--all", service).split()[-1]


def timed(seconds: dict[str, float], name: str) -> "_Timed":
    """Measures a block into a dictionary."""
    return _Timed(seconds, name)


class _Timed:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds = seconds
        self._name = name

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = time.monotonic() - self._begun
