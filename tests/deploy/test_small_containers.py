"""Containers with little memory and no folder to write to, and models that are too large."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import tiny_models
from tests.deploy.conftest import Image
from tests.deploy.engine import docker, inspected
from tests.deploy.waiting import answers, wait_until
from tests.e2e.metrics import value

pytestmark = pytest.mark.drill

LARGE = 3 * 2**30
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


class Container:
    """A running service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._find()

    def _find(self) -> None:
        networks = inspected(self.name)["NetworkSettings"]["Networks"]
        self.url = f"http://{networks['bridge']['IPAddress']}:8000"
        wait_until(lambda: answers(f"{self.url}/readyz"), what="it is ready")

    def log(self) -> str:
        return docker("logs", self.name)

    def serves(self, version: str) -> bool:
        picture = tiny_models.png(tiny_models.random_picture(0))
        headers = {"connection": "close", "content-type": "image/png"}
        answer = httpx.post(f"{self.url}/predict", content=picture, headers=headers)
        return answer.is_success and answer.json()["version"] == version

    def restart(self) -> None:
        docker("restart", self.name)
        self._find()


@contextmanager
def running(
    image: Image, models: Path | None, memory: str, workers: int, *more: str
) -> Iterator[Container]:
    """A service of the image with this folder of models, or with those of the image."""
    limits = (
        f"--memory={memory}",
        f"--memory-swap={memory}",
        f"--env=LOGITSERVE_WORKERS={workers}",
    )
    mounted = () if models is None else (f"--volume={models}:/models:ro",)
    options = (*HARDENED, *limits, *mounted, *more)
    name = docker("run", "--detach", *options, image.name).strip()
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", name)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    tiny_models.publish(folder, name="tiny")
    folder.chmod(0o755)
    return folder


def assert_refused(service: Container) -> None:
    def is_refused() -> bool:
        try:
            return value(service.url, "model_versions", model="tiny", state="refused") == 1
        except httpx.TransportError:
            return False  # the worker that was asked has just ended

    wait_until(is_refused, what="a refusal")


def assert_lives(service: Container, workers: int) -> None:
    wait_until(lambda: value(service.url, "workers") == workers, what="all workers")
    for _ in range(10):
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        assert service.serves("1")
    assert inspected(service.name)["RestartCount"] == 0


@pytest.mark.parametrize(("memory", "workers"), [("256m", 1), ("1g", 2)])
def test_a_file_of_three_gigabytes(image: Image, models: Path, memory: str, workers: int) -> None:
    with running(image, models, memory, workers) as service:
        (models / "tiny/2").mkdir()
        with (models / "tiny/2/model.onnx").open("wb") as file:
            file.truncate(LARGE)
        for _ in range(2):
            assert_refused(service)
            assert_lives(service, workers)
            service.restart()
        assert service.log().count(f"the file has {LARGE} bytes, more than the limit of") >= 2
        assert not inspected(service.name)["State"]["OOMKilled"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_takes_more_memory_than_there_is(
    image: Image, models: Path, workers: int
) -> None:
    """It is a small file. Each worker that begins to load it before it has ended one may end.

    So may a successor, while the kernel frees what the other one took.
    """
    with running(image, models, "300m", workers) as service:
        incoming = models.with_name("incoming")
        tiny_models.publish(incoming, name="tiny", version="2")
        tiny_models.make_huge(incoming / "tiny/2/model.onnx", 2**31)
        (incoming / "tiny/2").rename(models / "tiny/2")
        assert_refused(service)
        assert_lives(service, workers)
        exits = value(service.url, "worker_exits_total", reason="oom")
        assert 1 <= exits <= workers
        log = service.log()
        assert "has exited: out of memory (limit 300 MiB)" in log
        assert "it ended the process that loaded it (out of memory" in log
