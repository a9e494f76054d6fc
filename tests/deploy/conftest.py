import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.deploy.engine import Compose, NoEngineError, base_image, docker, running_engine, timed

MEASURED: dict[str, float] = {}
"""What was measured on the way, in seconds or megabytes; said at the end."""
WITHOUT_ENGINE: list[str] = []
IMAGE = "logitserve-test:service"


@dataclass(frozen=True)
class Image:
    """The built image, and what it stands on."""

    name: str
    base: str
    environment: dict[str, str] = field(default_factory=dict)
    """For compose, so that it takes this image."""


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    try:
        with running_engine(tmp_path_factory.mktemp("engine") / "dockerd.log"):
            yield
    except NoEngineError as error:
        WITHOUT_ENGINE.append(str(error))
        pytest.skip(f"no container was run: {error}")


@pytest.fixture(scope="session")
def image(engine: None) -> Image:
    """Built by compose, as people build it."""
    del engine
    with timed(MEASURED, "base image, s"):
        base = base_image()
    environment = {"PYTHON_IMAGE": base, "SERVICE_IMAGE": IMAGE}
    with timed(MEASURED, "image, s"):
        Compose(environment).run("build", "service")
    return Image(IMAGE, base, environment)


def layer_sizes(image: str) -> dict[str, float]:
    """Megabytes of each layer that is not empty, by the command that made it."""
    lines = docker("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", image)
    units = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
    sizes: dict[str, float] = {}
    for line in lines.splitlines():
        size, made_by = line.split("\t", 1)
        number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]+)", size).groups()  # type: ignore[union-attr]
        if float(number):
            sizes[made_by] = float(number) * units[unit]
    return sizes


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, value in MEASURED.items():
        terminalreporter.write_line(f"{value:8.1f}  {name}")
    for reason in WITHOUT_ENGINE:
        terminalreporter.section("NO CONTAINER WAS RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"image and compose are NOT TESTED: {reason}")
