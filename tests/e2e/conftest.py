import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from logitserve.inference.card import Fit, Head, InputSpec
from tests import tiny_models
from tests.e2e.process import Server, running

ROOT = Path(__file__).parents[2]
COLOR = InputSpec(height=12, width=16, channels=3, fit=Fit.STRETCH)
SCENE_LABELS = ("car", "bus", "pedestrian")

Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """A folder of four models, one of them in two versions, and their weights."""
    folder = tmp_path_factory.mktemp("models")
    return folder, {
        "digits/1": tiny_models.publish(folder, name="digits", seed=1),
        "digits/2": tiny_models.publish(folder, name="digits", version="2", seed=2),
        "scenes/1": tiny_models.publish(
            folder,
            name="scenes",
            head=Head.SIGMOID,
            labels=SCENE_LABELS,
            spec=COLOR,
            seed=3,
            thresholds=(0.2, 0.5, 0.8),
        ),
        "zero/1": tiny_models.publish(
            folder, name="zero", head=Head.BINARY, labels=("other", "zero"), seed=4
        ),
        "warm/1": tiny_models.publish(folder, name="warm", seed=1, temperature=2.5),
    }


@pytest.fixture(scope="session")
def weights(models: tuple[Path, Weights]) -> Weights:
    return models[1]


@pytest.fixture(scope="session")
def server(models: tuple[Path, Weights]) -> Iterator[Server]:
    """One server for the tests that only ask."""
    with running(
        "--models",
        str(models[0]),
        "--version-policy",
        "all",
        "--max-body-bytes",
        "1000000",
        "--max-pictures",
        "40",
        "--max-pixels",
        "1000000",
    ) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="session")
def clients() -> str:
    """The interpreter of the environment that has the clients; made if it is not there."""
    made = subprocess.run(
        ["make", "--silent", "protocol-clients"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.fail(
            "the clients of the protocols are NOT TESTED, because `make protocol-clients` failed:\n"
            f"{made.stdout}{made.stderr}"
        )
    return str(ROOT / ".venv/protocol-clients/bin/python")
