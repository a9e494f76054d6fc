"""The watcher of one worker, with real files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.repository import ModelRepository
from logitserve_service.errors import LoadError
from logitserve_service.repository import watcher as watching
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.snapshot import Snapshot, scan
from logitserve_service.repository.watcher import Watcher
from tests import tiny_models
from tests.service.repository.loading import loader_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    tiny_models.publish(folder, name="tiny", seed=1)
    tiny_models.publish(folder, name="other", seed=2)
    return folder


@asynccontextmanager
async def watched(models: Path, seconds: float = 0.1) -> AsyncIterator[tuple[Catalog, Watcher]]:
    catalog = Catalog.load(loader_of(ModelRepository(models)))
    watcher = Watcher(catalog, watch_seconds=seconds)
    async with watcher.running():
        yield catalog, watcher


def take_away(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


async def until_served(catalog: Catalog, expected: dict[str, list[str]]) -> None:
    for _ in range(3000):
        served = {name: list(versions) for name, versions in catalog.models.items()}
        if served == expected:
            return
        await anyio.sleep(0.01)
    pytest.fail(f"{served} are served, not {expected}")


async def test_the_repository_is_followed(models: Path) -> None:
    async with watched(models) as (catalog, _):
        tiny_models.publish(models, version="2", seed=3)
        await until_served(catalog, {"other": ["1"], "tiny": ["2"]})
        (models / "other/1/model.onnx").unlink()
        await until_served(catalog, {"tiny": ["2"]})


async def test_load_and_unload(models: Path) -> None:
    async with watched(models, seconds=0) as (catalog, watcher):
        await watcher.unload("tiny")
        assert list(catalog.models) == ["other"]
        tiny_models.publish(models, version="2", seed=3)
        await watcher.load("tiny")
        assert list(catalog.models["tiny"]) == ["2"]
        (models / "tiny/2/model.onnx").write_bytes(b"garbage")
        with pytest.raises(LoadError, match=r"version 2: its file was overwritten.*answer: 2"):
            await watcher.load("tiny")
        with pytest.raises(ModelNotFoundError, match=r"'tinny'; did you mean 'tiny'\?"):
            await watcher.load("tinny")
        with pytest.raises(ModelNotFoundError, match="no model 'cats'; there is other, tiny"):
            await watcher.unload("cats")
        take_away(models)
        with pytest.raises(LoadError, match="cannot be read: No such file"):
            await watcher.load("tiny")


async def test_a_model_that_cannot_be_read_stays(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = 0

    def scan_without_other(repository: ModelRepository) -> Snapshot:
        nonlocal scans
        scans += 1
        found = scan(repository).files
        return Snapshot({"tiny": found["tiny"]}, {"other": "Permission denied"}, {})

    async with watched(models) as (catalog, _):
        monkeypatch.setattr(watching, "scan", scan_without_other)
        tiny_models.publish(models, version="2", seed=3)
        await until_served(catalog, {"other": ["1"], "tiny": ["2"]})
        assert scans >= 2


async def test_an_error_does_not_end_it(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([RuntimeError("fails once")])

    def failing_scan(repository: ModelRepository) -> Snapshot:
        for error in failures:
            raise error
        return scan(repository)

    monkeypatch.setattr(watching, "scan", failing_scan)
    async with watched(models) as (catalog, _):
        tiny_models.publish(models, version="2", seed=3)
        await until_served(catalog, {"other": ["1"], "tiny": ["2"]})
    assert "watching the folder of models failed" in caplog.text
