import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from logitserve.cli.main import main
from logitserve.inference import conformal
from logitserve.inference.card import Energy, Fit, Head, InputSpec, LabelScaling
from logitserve.inference.repository import MODEL_FILE
from tests import tiny_models
from tests.e2e.browser import launched
from tests.e2e.collector import Collector, collecting
from tests.e2e.process import Server, running
from tests.e2e.profiles import ADMIN_KEY, NEW_KEY, OLD_KEY, PROFILES, ROOT

COLOR = InputSpec(height=12, width=16, channels=3, fit=Fit.STRETCH)
SCENE_LABELS = ("car", "bus", "pedestrian")
SCENE_THRESHOLDS = (0.2, 0.5, 0.8)
TEMPERATURE = 2.0
ENERGY = Energy(threshold=-9.25, known_share=0.99, pictures=2000)
SETS = conformal.calibrate(np.linspace(-0.9, 0.9, 1000), np.arange(1000) % 10, 10)
SCALING = (LabelScaling(scale=0.5, bias=1.0), LabelScaling(scale=2.0, bias=-1.0))
REPORT = "<!doctype html><title>A report</title>"
MODELS = ["adopted", "digits", "digits-mlp", "doubtful", "scaled", "scenes", "warm", "zero"]
VERSIONS = [f"{name}/{v}" for name in MODELS for v in ("12" if name == "digits" else "1")]
FOREIGN = ROOT / "tests/data/torch_cnn.onnx"
IMAGES = 200

Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """A folder of `VERSIONS`, and the weights of those that are linear."""
    folder = tmp_path_factory.mktemp("models")
    return folder, published(folder)


def published(folder: Path) -> Weights:
    def linear(name: str, **fields: Any) -> npt.NDArray[np.float32]:
        return tiny_models.publish(folder, name=name, **fields)

    sigmoid: dict[str, Any] = {"head": Head.SIGMOID}
    scenes = {"labels": SCENE_LABELS, "spec": COLOR, "thresholds": SCENE_THRESHOLDS}
    weights = {
        "digits/1": linear("digits", seed=1),
        "digits/2": linear("digits", version="2", seed=2),
        "scenes/1": linear("scenes", seed=3, **sigmoid, **scenes),
        "zero/1": linear("zero", head=Head.BINARY, labels=("other", "zero"), seed=4),
        "warm/1": linear("warm", seed=1, temperature=2.5),
        "doubtful/1": linear("doubtful", temperature=TEMPERATURE, conformal=SETS, energy=ENERGY),
        "scaled/1": linear(
            "scaled", labels=("a", "b"), thresholds=(0.3, 0.6), scaling=SCALING, **sigmoid
        ),
    }
    report = folder / "doubtful/1/report/index.html"
    report.parent.mkdir()
    report.write_text(REPORT)
    shutil.copytree(ROOT / "models/digits-mlp", folder / "digits-mlp")
    terms = ("--name", "adopted", "--head", "softmax", "--labels", "a,b,c,d,e")
    preset = ("--preset", "imagenet", "--models", str(folder))
    done = CliRunner().invoke(main, ["adopt", str(FOREIGN), *terms, *preset])
    assert done.exit_code == 0, done.output
    return weights


@pytest.fixture(scope="session")
def weights(models: tuple[Path, Weights]) -> Weights:
    return models[1]


@dataclass(frozen=True, slots=True)
class Reference:
    """Images, and what a model makes of them, computed without this project."""

    images: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def references(models: tuple[Path, Weights]) -> dict[str, Reference]:
    """Of `digits`, a model of our own, and of `adopted`; by onnxruntime and a float64 softmax."""
    found = {}
    for name, version, shape in (("digits", "2", (28, 28, 1)), ("adopted", "1", (24, 24, 3))):
        images = np.random.default_rng(7).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
        path = models[0] / name / version / MODEL_FILE
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"image": images})
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        found[name] = Reference(images, powers / powers.sum(axis=1, keepdims=True))
    return found


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture(scope="session")
def profile(
    models: tuple[Path, Weights], collector: Collector
) -> Iterator[Callable[[str], Server]]:
    """Servers by the names of their profiles, started when they are first asked for."""
    with ExitStack() as stack:

        @cache
        def started(name: str) -> Server:
            options, environment = PROFILES[name](str(models[0]), collector.url)
            return stack.enter_context(running(*options, environment=environment))

        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture(scope="session")
def server(profile: Callable[[str], Server]) -> Server:
    return profile("plain")


@pytest.fixture(scope="session")
def pair(profile: Callable[[str], Server]) -> Server:
    return profile("pair")


@pytest.fixture(scope="session")
def strict(profile: Callable[[str], Server]) -> Server:
    return profile("strict")


@pytest.fixture(scope="session")
def locked(profile: Callable[[str], Server]) -> Iterator[Server]:
    started = profile("locked")
    yield started
    log = "".join(started.log)
    for key in (OLD_KEY, NEW_KEY, ADMIN_KEY, "wrong-key"):
        assert key not in log


@pytest.fixture(scope="session")
def traced(profile: Callable[[str], Server]) -> Server:
    return profile("traced")


@pytest.fixture(scope="session")
def shipped(profile: Callable[[str], Server]) -> Server:
    return profile("shipped")


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
